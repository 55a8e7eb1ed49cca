// A symmetric matrix that can be zoomed and moved, by pointer, wheel, buttons and keys; its cells lead to classes.
"use strict";

(() => {
  const { h } = atlas;
  const COLOURS = ["#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725"]; // viridis
  const SIDE = 640; // at most, in CSS pixels
  const rgb = COLOURS.map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));

  function colour(t) {
    const x = Math.max(0, Math.min(1, t)) * (rgb.length - 1), i = Math.min(rgb.length - 2, Math.floor(x));
    return rgb[i].map((c, k) => Math.round(c + (x - i) * (rgb[i + 1][k] - c)));
  }

  /** `order`: labels as they stand; `upper`: cosines · 10⁴ of the pairs i < j, row by row; `label`: where to look. */
  atlas.matrix = (model, order, upper, label) => {
    const C = order.length;
    const place = (i, j) => i * C - (i * (i + 1)) / 2 + (j - i - 1); // of the pair i < j
    const value = (i, j) => (i === j ? 1 : upper[i < j ? place(i, j) : place(j, i)] / 1e4);
    let low = Infinity, high = -Infinity;
    for (const x of upper) {
      low = Math.min(low, x / 1e4);
      high = Math.max(high, x / 1e4);
    }
    const steps = Array.from({ length: 256 }, (_, k) => [...colour(k / 255), 255]);
    const image = new ImageData(C, C);
    for (let i = 0; i < C; i += 1) {
      for (let j = i; j < C; j += 1) { // the diagonal, 1, has the colour of the largest
        const step = steps[Math.min(255, Math.round((255 * (value(i, j) - low)) / (high - low || 1)))];
        image.data.set(step, 4 * (i * C + j));
        image.data.set(step, 4 * (j * C + i));
      }
    }
    const whole = h("canvas", { width: C, height: C });
    whole.getContext("2d").putImageData(image, 0, 0);

    const canvas = h("canvas", { tabindex: "0", role: "application", "aria-roledescription": "matrix",
      "aria-label": `Similarity of ${C} classes. Arrow keys choose a pair, plus and minus zoom, Enter opens the class of the row.` });
    const names = h("div", { class: "names" }), said = h("p", { "aria-live": "polite" });
    const at = label === null ? 0 : order.indexOf(label);
    let span = label === null ? C : Math.min(C, 24); // classes across
    let top = at - span / 2, left = at - span / 2, chosen = [at, at];

    const clamp = () => {
      span = Math.max(Math.min(C, 4), Math.min(C, span));
      [top, left] = [top, left].map((x) => Math.max(0, Math.min(C - span, x)));
    };

    function draw() {
      clamp();
      const side = Math.max(120, Math.min(SIDE, canvas.parentElement.clientWidth - names.offsetWidth - 12));
      if (canvas.width !== side) canvas.width = canvas.height = side;
      const context = canvas.getContext("2d"), cell = side / span;
      context.imageSmoothingEnabled = false;
      context.clearRect(0, 0, side, side);
      context.drawImage(whole, left, top, span, span, 0, 0, side, side);
      const frame = (i, j, width) => {
        context.strokeStyle = "#ffffff";
        context.lineWidth = width + 2;
        context.strokeRect((j - left) * cell, (i - top) * cell, cell, cell);
        context.strokeStyle = "#000000";
        context.lineWidth = width;
        context.strokeRect((j - left) * cell, (i - top) * cell, cell, cell);
      };
      frame(...chosen, 1.5);
      names.style.height = `${side}px`;
      const step = Math.max(1, Math.ceil(15 / cell)), links = [];
      for (let i = Math.ceil(top / step) * step; i < top + span; i += step) {
        const y = (i + 0.5 - top) * cell;
        if (i >= C || y < 0 || y > side) continue;
        const link = h("a", { href: atlas.address(model.name, "class", order[i]) }, atlas.title(model, order[i]));
        link.style.top = `${y}px`;
        links.push(link);
      }
      names.replaceChildren(...links);
    }

    function say() {
      const [i, j] = chosen;
      said.replaceChildren(atlas.classLink(model, order[i]), " and ", atlas.classLink(model, order[j]), `: ${atlas.number(value(i, j))}`);
    }

    function choose(i, j) {
      chosen = [i, j].map((x) => Math.max(0, Math.min(C - 1, x)));
      const [row, column] = chosen;
      top = Math.min(Math.max(top, row + 1 - span), row);
      left = Math.min(Math.max(left, column + 1 - span), column);
      say();
      draw();
    }

    function zoom(factor, i = top + span / 2, j = left + span / 2) {
      const next = Math.max(Math.min(C, 4), Math.min(C, span * factor)), ratio = next / span;
      [top, left, span] = [i - (i - top) * ratio, j - (j - left) * ratio, next];
      draw();
    }

    const cellAt = (event) => {
      const box = canvas.getBoundingClientRect();
      return [top + ((event.clientY - box.top) / box.height) * span, left + ((event.clientX - box.left) / box.width) * span];
    };
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => { drag = { at: cellAt(event), moved: false }; });
    canvas.addEventListener("pointermove", (event) => {
      const [i, j] = cellAt(event);
      if (drag && event.buttons) {
        const moved = [drag.at[0] - i, drag.at[1] - j];
        if (drag.moved || Math.hypot(...moved) > span / 100) {
          [top, left, drag.moved] = [top + moved[0], left + moved[1], true];
          draw();
        }
      }
    });
    canvas.addEventListener("pointerup", (event) => {
      if (drag && !drag.moved) choose(...cellAt(event).map(Math.floor));
      drag = null;
    });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== canvas) return; // the page scrolls
      event.preventDefault();
      zoom(event.deltaY > 0 ? 1.25 : 0.8, ...cellAt(event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const [i, j] = chosen, moves = { ArrowUp: [i - 1, j], ArrowDown: [i + 1, j], ArrowLeft: [i, j - 1], ArrowRight: [i, j + 1] };
      if (moves[event.key]) choose(...moves[event.key]);
      else if (event.key === "+" || event.key === "-") zoom(event.key === "+" ? 0.8 : 1.25, ...chosen);
      else if (event.key === "Enter") location.hash = atlas.address(model.name, "class", order[i]);
      else return;
      event.preventDefault();
    });
    const box = h("div", { class: "matrix" }, names, canvas);
    let width = 0;
    new ResizeObserver(() => {
      if (!canvas.isConnected || box.clientWidth === width) return;
      width = box.clientWidth;
      requestAnimationFrame(draw); // which changes the box's height
    }).observe(box);

    const button = (text, name, act) => h("button", { type: "button", class: "button", "aria-label": name, click: act }, text);
    const bar = h("span", { class: "bar", "aria-hidden": "true" }, Array.from({ length: 24 }, (_, i) => {
      const part = h("span", {});
      part.style.background = `rgb(${colour(i / 23).join(" ")})`;
      return part;
    }));
    say();
    const showAll = () => {
      [top, left, span] = [0, 0, C];
      draw();
    };
    const element = h("div", {},
      h("div", { class: "choice" }, button("+", "zoom in", () => zoom(0.6)), button("−", "zoom out", () => zoom(1 / 0.6)), button("all", "show all classes", showAll)),
      box, said, h("p", { class: "scale" }, atlas.number(low), bar, atlas.number(high)),
      h("p", { class: "note" }, "A click or the arrow keys choose a pair; plus, minus or the wheel zoom once the picture has the focus, Ctrl and the wheel always; drag to move."));
    return { element, draw };
  };
})();
