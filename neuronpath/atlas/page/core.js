// What all pages share: elements, addresses, numbers, and data files that are loaded when they are needed.
//
// The page is opened from disk, where browsers load no ES modules: every file is a plain script that adds its part to
// `atlas`. Whatever comes from data is text: elements are made here, and nowhere is a string read as markup.
"use strict";

const atlas = { pages: {} };

/** An element of HTML; attributes with a function are listeners, with "--" properties of style; null and false are left out. */
atlas.h = (tag, attributes = {}, ...children) =>
  atlas.fill(document.createElement(tag), attributes, children);

/** An element of SVG. */
atlas.svg = (tag, attributes = {}, ...children) =>
  atlas.fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

atlas.fill = (element, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
};

// Data files ---------------------------------------------------------------------------------------------------------

const values = new Map();
const loads = new Map();

/** Every data file calls it once: `name` is its path below data/ without ending. */
atlas.put = (name, value) => values.set(name, value);

/** The value of data/NAME.js, loaded once; rejected with words where it is not there. */
atlas.load = (name) => {
  if (!loads.has(name)) {
    loads.set(name, new Promise((resolve, reject) => {
      if (values.has(name)) return resolve(values.get(name));
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onload = () => values.has(name) ? resolve(values.get(name)) : reject(new Error(`data/${name}.js is damaged; make the atlas anew`));
      script.onerror = () => {
        loads.delete(name); // so that it can be asked for again
        reject(new Error(`data/${name}.js is not there; make the atlas anew`));
      };
      document.head.append(script);
    }));
  }
  return loads.get(name);
};

/** Numbers of a base64 text, little-endian. */
atlas.decoded = (text, Kind) => {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Kind(bytes.buffer);
};

/** In which of `count` files the class of an image is noted: FNV-1a of its name in UTF-8. */
atlas.bucket = (name, count) => {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash % count;
};

// Addresses ----------------------------------------------------------------------------------------------------------

/** `#/…` of these parts, each percent-encoded. */
atlas.address = (...parts) => "#/" + parts.map((part) => encodeURIComponent(part)).join("/");

/** [MODEL, KIND, …]; of an image all that follows is its name. */
atlas.parts = (hash) => {
  const decode = (text) => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  const raw = hash.replace(/^#\/?/, "").split("/").map(decode);
  return raw[1] === "image" ? [raw[0], raw[1], raw.slice(2).join("/")] : raw.filter((part) => part !== "");
};

// Words and numbers --------------------------------------------------------------------------------------------------

atlas.number = (value, digits = 4) => {
  if (value === null || value === undefined) return "–";
  const text = value.toFixed(digits);
  return /^-0\.?0*$/.test(text) ? text.slice(1) : text; // no minus before a zero
};

/** `mean [low, high]` of three numbers; the bounds may be null. */
atlas.interval = (three, digits = 4) => {
  if (!three) return "–";
  const [value, low, high] = three;
  const bounds = low === null ? "" : ` [${atlas.number(low, digits)}, ${atlas.number(high, digits)}]`;
  return atlas.number(value, digits) + bounds;
};

atlas.percent = (share) => `${atlas.number(100 * share, 1)} %`;

/** "1 image", "2 images". */
atlas.count = (count, noun, plural = `${noun}s`) => `${count.toLocaleString("en")} ${count === 1 ? noun : plural}`;

// Model --------------------------------------------------------------------------------------------------------------

/** What the index says of a model and its own file; null where there is none of this name. */
atlas.model = async (name) => {
  const entry = (await atlas.load("index")).models.find((model) => model.name === name);
  if (!entry) return null;
  const model = await atlas.load(`${entry.key}/model`);
  model.key = entry.key;
  if (!model.byLabel) {
    model.classes = model.classes.map(([label, text, n, near, scores, counts]) => ({ label, name: text, n, near,
      counts: Object.fromEntries(model.methods.map((method, i) => [method.key, counts ? counts[i] : n])),
      scores: Object.fromEntries(model.methods.map((method, i) => [method.key, scores[i]])) }));
    model.byLabel = new Map(model.classes.map((row) => [row.label, row]));
  }
  return model;
};

atlas.title = (model, label) => {
  if (label === null || label === undefined) return "–"; // records need not tell the predicted class
  const row = model.byLabel.get(label);
  const name = row ? row.name : (model.otherNames[label] ?? String(label));
  return name === String(label) ? `class ${label}` : `${label} ${name}`;
};

atlas.classLink = (model, label, text = atlas.title(model, label)) =>
  model.byLabel.has(label) ? atlas.h("a", { href: atlas.address(model.name, "class", label) }, text) : text;

atlas.unitLink = (model, layer, unit) =>
  atlas.h("a", { href: atlas.address(model.name, "unit", layer, unit), "aria-label": `unit ${unit} of layer ${layer}` }, String(unit));

atlas.PROBABILITY = "p: the model's probability of the target: the image's own class, unless the model's page says otherwise under “What was run”.";

/** Of edits what their control is, where they have it. */
atlas.controlNote = (edits) => (edits.some(({ key }) => key === "random")
  ? atlas.h("p", { class: "note" }, "Matched control: other units, drawn at random, that write about as much as the path's.") : null);

/** Of `methods` the neuron path, or the first there is. */
atlas.main = (methods) => methods.find((method) => method.key === "ja") ?? methods[0];

/** A picture of an image, or words where there is none; `size` in CSS pixels. */
atlas.thumbnail = (thumb, alt, size = 84) => {
  if (!thumb) return atlas.h("span", { class: "no-picture", ...(alt && { role: "img", "aria-label": `no picture of ${alt}` }) }, "no picture");
  const [file, width, height] = thumb;
  const scale = size / Math.max(width, height);
  return atlas.h("img", {
    src: `thumbs/${file}`, alt, loading: "lazy", decoding: "async", class: scale > 2 ? "pixelated" : null,
    width: Math.round(width * scale), height: Math.round(height * scale),
  });
};

/** Marks of methods, also for eyes that see no colours: a shape, a dash and a colour each. */
atlas.SHAPES = ["circle", "square", "triangle", "diamond", "plus", "turned", "cross", "bar"];
atlas.DASHES = [null, "7 4", "2 3", "9 3 2 3", "12 3", "4 2", "1 5", "9 3 2 3 2 3"];
atlas.style = (model, key) => {
  const i = Math.max(0, model.methods.findIndex((method) => method.key === key));
  return { shape: atlas.SHAPES[i % 8], dash: atlas.DASHES[i % 8], colour: model.methods[i].colour };
};

// Parts of pages -----------------------------------------------------------------------------------------------------
//
// What a reader changes, `kept` parts, is noted for each entry of the history: `keep.get()` says it, `keep.set` restores it.

/** Buttons of which one is pressed; `chosen(key)` is told which. */
atlas.choice = (label, options, first, chosen) => {
  let pressed = first;
  const buttons = options.map(([key, text]) =>
    atlas.h("button", { type: "button", "aria-pressed": String(key === first), click: () => press(key) }, text));
  function press(key) {
    pressed = key;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(options[i][0] === key)));
    chosen(key);
  }
  const element = atlas.h("div", { class: "choice kept", role: "group", "aria-label": label }, buttons);
  element.keep = { get: () => pressed, set: (key) => key !== pressed && press(key) };
  return element;
};

/**
 * A list that a button makes longer: `next()` gives more elements or a promise of them, `left()` the words of the button,
 * "" where nothing is left. What goes wrong is said, and the button stays.
 */
atlas.batches = (list, next, left) => {
  let done = 0, loading = null;
  const words = atlas.h("p", { role: "status" });
  const more = atlas.h("button", { type: "button", class: "button", hidden: true, click: () => press() });
  async function add() {
    more.setAttribute("aria-disabled", "true"); // `disabled` would take the focus away
    words.textContent = "";
    try {
      const added = await next();
      list.append(...added);
      done += 1;
      if (document.activeElement === more) added[0]?.querySelector("a")?.focus();
    } catch (error) {
      words.textContent = error.message;
    }
    more.removeAttribute("aria-disabled");
    more.textContent = left();
    more.hidden = !left();
    loading = null;
  }
  const press = () => (loading ??= add());
  press();
  list.classList.add("kept");
  list.keep = { get: () => done, set: async (wanted) => {
    await loading;
    while (done < wanted && left() && !words.textContent) await press();
  } };
  return [list, words, more];
};

const sizes = new ResizeObserver((entries) => {
  for (const box of new Set(entries.map(({ target }) => target.closest(".wide")))) {
    const over = Boolean(box) && box.scrollWidth > box.clientWidth;
    const scrolling = { role: "region", tabindex: "0", "aria-label": box?.dataset.label };
    for (const [name, value] of Object.entries(scrolling)) over ? box.setAttribute(name, value) : box?.removeAttribute(name);
  }
});

/** A box that scrolls sideways; where there is something to scroll it is a stop of the Tab key, called `label`. */
atlas.scrolled = (label, child) => {
  const box = atlas.h("div", { class: "wide", "data-label": label }, child);
  sizes.observe(box);
  sizes.observe(child);
  return box;
};
