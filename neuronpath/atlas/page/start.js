// Which page an address names, and what happens when it changes.
"use strict";

(() => {
  const { h } = atlas;
  const main = document.getElementById("main");
  const views = new Map(); // by entry of the history how its page was left
  let turn = 0, here = null; // `here`: the entry whose page is shown
  history.scrollRestoration = "manual"; // the browser would scroll before the page is drawn

  atlas.pages.home = async () => {
    const index = await atlas.load("index");
    const list = index.models.map((model) =>
      h("li", {}, h("a", { href: atlas.address(model.name) }, model.name), `: ${model.words}`));
    return { title: "NeuronPath atlas", content: [
      h("h1", {}, "Neuron paths"),
      h("p", {}, "Which few neurons carry a Vision Transformer's decision, layer by layer? A path is one unit of every feed-forward layer. Choose a model:"),
      h("ul", { class: "models" }, list),
    ] };
  };

  const missing = (what) => ({ title: "Not found", content: [
    h("h1", {}, "There is no such page"),
    h("p", {}, what),
    h("p", {}, h("a", { href: "#/" }, "All models")),
  ] });

  async function page(parts) {
    if (!parts.length) return atlas.pages.home();
    const [name, kind, ...rest] = parts;
    const model = await atlas.model(name);
    if (!model) return missing(`This atlas has no model called ${name}.`);
    if (!kind) return atlas.pages.model(model);
    const make = ["class", "image", "unit", "similar"].includes(kind) ? atlas.pages[kind] : null;
    const found = make && (await make(model, rest));
    return found || missing(`${name} has no ${[kind, ...rest].join(" ")}; its records name no such thing.`);
  }

  function crumbs(parts, model, trail = []) {
    const steps = [["Atlas", "#/"]];
    if (model) steps.push([model, atlas.address(model)], ...trail);
    document.getElementById("crumbs").replaceChildren(...steps.map(([text, href], i) =>
      h("li", {}, h("a", { href, "aria-current": i === steps.length - 1 ? "page" : null }, text))));
  }

  const kept = () => [...main.querySelectorAll(".kept")];

  function leave() {
    if (here) views.set(here, { down: window.scrollY, parts: kept().map((part) => part.keep.get()) });
  }

  async function restore({ down, parts }, mine) {
    for (const [i, part] of parts.entries()) await kept()[i]?.keep.set(part); // in turn: a choice draws parts after it
    if (mine === turn) window.scrollTo(0, down);
  }

  async function show() {
    leave();
    here = null;
    const mine = ++turn, address = location.hash, parts = atlas.parts(address);
    const { entry = `${Date.now()} ${mine}`, view } = history.state ?? {};
    history.replaceState({ entry }, "");
    main.setAttribute("aria-busy", "true");
    let found;
    try {
      found = await page(parts);
    } catch (error) {
      found = { title: "Not loaded", content: [h("h1", {}, "This page cannot be shown"), h("p", {}, error.message)] };
    }
    if (mine !== turn) return; // another address was asked for meanwhile
    const index = await atlas.load("index").catch(() => ({ models: [] }));
    const model = index.models.some((entry) => entry.name === parts[0]) ? parts[0] : null;
    crumbs(parts, model, found.trail);
    main.replaceChildren(...found.content);
    main.removeAttribute("aria-busy");
    main.dataset.page = address || "#/"; // what is shown, for whoever waits for it
    document.title = found.title === "NeuronPath atlas" ? found.title : `${found.title} · NeuronPath atlas`;
    document.getElementById("tip").hidden = true;
    document.getElementById("status").textContent = found.title;
    found.after?.();
    window.scrollTo(0, 0);
    if (shown) main.focus({ preventScroll: true });
    shown = true;
    here = entry;
    const left = views.get(entry) ?? view;
    if (left) restore(left, mine);
  }
  let shown = false;

  // "To the content" moves the focus; as an address it would name no page.
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });

  // One tooltip for all that has data-tip, under the pointer or beside what has the focus.
  const tip = document.getElementById("tip");
  function point(event) {
    const of = event.target.closest?.("[data-tip]");
    tip.hidden = !of;
    if (!of) return;
    tip.textContent = of.getAttribute("data-tip");
    const box = of.getBoundingClientRect(), pointer = event.type === "pointerover";
    const x = pointer ? event.clientX : box.right, y = pointer ? event.clientY : box.bottom;
    tip.style.left = `${Math.max(4, Math.min(x + 12, window.innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 12, window.innerHeight - tip.offsetHeight - 8))}px`;
  }
  for (const kind of ["pointerover", "focusin"]) document.addEventListener(kind, point);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });

  window.addEventListener("hashchange", show);
  window.addEventListener("beforeunload", () => { // for a page that is loaded anew
    leave();
    if (here) history.replaceState({ entry: here, view: views.get(here) }, "");
  });
  show();
})();
