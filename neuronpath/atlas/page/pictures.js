// Pictures of paths, layers from left to right: of a class, units by frequency; of an image, one line per method.
"use strict";

(() => {
  const { h, svg } = atlas;
  const STEP = 84, LEFT = 34; // CSS pixels between layers and before the first
  const LONGEST = 60, LINES = 300; // units shown per layer, lines per pair of layers and steps in the table

  const CORNERS = { // of marks with half width 1
    triangle: [[0, -1.2], [1.2, 1], [-1.2, 1]],
    diamond: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
    plus: [[-0.4, -1.3], [0.4, -1.3], [0.4, -0.4], [1.3, -0.4], [1.3, 0.4], [0.4, 0.4], [0.4, 1.3], [-0.4, 1.3], [-0.4, 0.4], [-1.3, 0.4], [-1.3, -0.4], [-0.4, -0.4]],
    turned: [[0, 1.2], [1.2, -1], [-1.2, -1]],
    cross: [[0, -0.5], [0.7, -1.2], [1.2, -0.7], [0.5, 0], [1.2, 0.7], [0.7, 1.2], [0, 0.5], [-0.7, 1.2], [-1.2, 0.7], [-0.5, 0], [-1.2, -0.7], [-0.7, -1.2]],
    bar: [[-1.5, -0.6], [1.5, -0.6], [1.5, 0.6], [-1.5, 0.6]],
  };

  /** A mark at (x, y) whose half width is r. */
  atlas.mark = (shape, x, y, r, colour) => {
    const common = { class: "mark", fill: colour, "--colour": colour };
    if (shape === "square") return svg("rect", { ...common, x: x - r, y: y - r, width: 2 * r, height: 2 * r });
    if (shape === "circle") return svg("circle", { ...common, cx: x, cy: y, r });
    return svg("path", { ...common, d: `M${CORNERS[shape].map(([a, b]) => `${x + a * r} ${y + b * r}`).join("L")}Z` });
  };

  /** What marks, dashes and colours stand for. */
  atlas.key = (model, keys) => h("ul", { class: "key" }, keys.map((key) => {
    const { shape, dash, colour } = atlas.style(model, key);
    return h("li", {}, svg("svg", { width: 40, height: 14, "aria-hidden": "true" },
      svg("path", { class: "link", d: "M0 7H40", stroke: colour, "--colour": colour, "stroke-width": 2, "stroke-dasharray": dash }), atlas.mark(shape, 20, 7, 5, colour)),
    model.methods.find((method) => method.key === key).name);
  }));

  const axis = (depth, height, first = "layer") => [
    svg("text", { x: 0, y: height - 4, class: "soft" }, first),
    ...Array.from({ length: depth }, (_, layer) =>
      svg("text", { x: LEFT + STEP * (layer + 0.5), y: height - 4, "text-anchor": "middle" }, String(layer))),
  ];

  /** How often images (paths: n × L × K) use each unit and go from one unit to the next. */
  atlas.flow = (paths) => {
    const depth = paths.length ? paths[0].length : 0;
    const units = Array.from({ length: depth }, () => new Map());
    const steps = Array.from({ length: Math.max(0, depth - 1) }, () => new Map());
    for (const path of paths) {
      path.forEach((layer, l) => {
        for (const unit of layer) {
          units[l].set(unit, (units[l].get(unit) ?? 0) + 1);
          if (l + 1 < depth) {
            for (const next of path[l + 1]) {
              const pair = `${unit} ${next}`;
              steps[l].set(pair, (steps[l].get(pair) ?? 0) + 1);
            }
          }
        }
      });
    }
    const order = units.map((layer) => [...layer].sort((a, b) => b[1] - a[1] || a[0] - b[0]));
    return { order, steps };
  };

  /** The path of a class: dots sized by how many of its images use a unit, lines by how many go from one to the next; their counts. */
  atlas.classPicture = (model, key, paths) => {
    const { order, steps } = atlas.flow(paths), n = paths.length, { colour } = atlas.style(model, key);
    const share = (count) => `${atlas.count(count, "image")} of ${n} (${atlas.percent(count / n)})`;
    const shown = order.map((layer) => layer.slice(0, LONGEST));
    const places = shown.map((layer, l) => {
      let y = 8;
      return new Map(layer.map(([unit, count]) => {
        const r = 2.5 + 9 * Math.sqrt(count / n);
        y += 2 * r + 5;
        return [unit, { x: LEFT + STEP * (l + 0.5), y: y - r, r, count }];
      }));
    });
    const height = 34 + Math.max(...places.map((layer) => Math.max(...[...layer.values()].map((p) => p.y + p.r))));
    const width = LEFT + STEP * order.length;
    const every = steps.flatMap((layer, l) => [...layer].map(([pair, count]) => {
      const [from, to] = pair.split(" ").map(Number);
      return { l, from, to, count };
    })).sort((a, b) => b.count - a.count);
    const drawable = ({ l, from, to }) => places[l].has(from) && places[l + 1].has(to);
    const drawn = steps.flatMap((_, l) => every.filter((step) => step.l === l && drawable(step)).slice(0, LINES).reverse());
    const lines = drawn.map(({ l, from, to, count }) => {
      const a = places[l].get(from), b = places[l + 1].get(to);
      const words = `${share(count)} from unit ${from} of layer ${l} to unit ${to} of layer ${l + 1}`;
      return svg("path", {
        class: "link", "data-tip": words, "data-count": count, stroke: colour, "--colour": colour, "stroke-width": 0.75 + 7 * count / n,
        "stroke-opacity": 0.35 + 0.5 * count / n, d: `M${a.x} ${a.y}C${a.x + STEP / 2} ${a.y} ${b.x - STEP / 2} ${b.y} ${b.x} ${b.y}`,
      });
    });
    const dots = places.flatMap((layer, l) => [...layer].map(([unit, p]) => {
      const words = `unit ${unit} of layer ${l}: ${share(p.count)}`;
      return svg("a", { href: atlas.address(model.name, "unit", l, unit), "aria-label": words, "data-tip": words, "data-count": p.count },
        atlas.mark("circle", p.x, p.y, p.r, colour),
        p.r > 4 ? svg("text", { x: p.x + p.r + 3, y: p.y + 4 }, String(unit)) : null);
    }));
    const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "path of the class" },
      lines, dots, axis(order.length, height));
    const left = order.map((layer) => layer.length - LONGEST).filter((more) => more > 0);
    const fewer = every.length - drawn.length;
    const figure = h("figure", {}, atlas.scrolled("The class's path, layers from left to right", picture), h("figcaption", {},
      "A dot is a unit, the larger the more images' paths use it, most used on top; a line, the thicker the more images go from one to the next. ",
      left.length ? `At most ${LONGEST} units of a layer are drawn; ${atlas.count(left.length, "layer has", "layers have")} more. ` : "",
      fewer ? `At most ${LINES} lines between two layers are drawn, the thickest; ${atlas.count(fewer, "line is", "lines are")} left out. ` : "", "The order of unit numbers carries no meaning."));
    const table = () => atlas.table(every.length > LINES ? `The ${LINES} most frequent of ${every.length.toLocaleString("en")}` : `All ${every.length}`, [
      { name: "from layer", value: (step) => step.l },
      { name: "unit", number: true, value: (step) => step.from, cell: (step) => atlas.unitLink(model, step.l, step.from) },
      { name: "to unit", number: true, value: (step) => step.to, cell: (step) => atlas.unitLink(model, step.l + 1, step.to) },
      { name: "images", number: true, value: (step) => step.count },
      { name: "share", number: true, value: (step) => step.count / n, cell: (step) => atlas.percent(step.count / n) },
    ], every.slice(0, LINES), { start: { column: "images", falling: true } });
    const details = h("details", { toggle: () => details.children.length > 1 || details.append(...table()) },
      h("summary", {}, "Steps between layers"));
    return every.length ? [figure, details] : [figure];
  };

  /** The paths of one image by all methods in one picture; height is unit / H. `of`: {key: {path, act}}. */
  atlas.imagePicture = (model, of) => {
    const keys = Object.keys(of), room = 230, height = room + 44, width = LEFT + STEP * model.depth;
    const y = (unit) => 10 + room * (1 - unit / Math.max(1, model.H - 1));
    const rails = Array.from({ length: model.depth }, (_, l) =>
      svg("path", { class: "axis", d: `M${LEFT + STEP * (l + 0.5)} 10V${room + 10}` }));
    const drawn = keys.flatMap((key, i) => {
      const { path, act } = of[key], { shape, dash, colour } = atlas.style(model, key);
      const x = (l) => LEFT + STEP * (l + 0.5) + 9 * (i - (keys.length - 1) / 2);
      const noun = model.methods.find((method) => method.key === key).noun;
      const points = path.map((layer, l) => `${x(l)},${y(layer[0])}`).join(" ");
      const line = svg("polyline", { class: "link", points, stroke: colour, "--colour": colour, "stroke-width": 1.5, "stroke-opacity": 0.7, "stroke-dasharray": dash });
      return [line, ...path.flatMap((layer, l) => layer.map((unit, k) => {
        const value = act?.[l]?.[k];
        const words = `${noun}: unit ${unit} of layer ${l}${value === undefined ? "" : `, activation ${atlas.number(value)}`}`;
        return svg("a", { href: atlas.address(model.name, "unit", l, unit), "aria-label": words, "data-tip": words }, atlas.mark(shape, x(l), y(unit), 5.5, colour));
      }))];
    });
    const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "paths of the image" },
      rails, svg("text", { x: 0, y: 14, class: "soft" }, String(model.H - 1)), svg("text", { x: 0, y: room + 14, class: "soft" }, "0"), drawn, axis(model.depth, height));
    return h("figure", {}, atlas.key(model, keys), atlas.scrolled("The image's paths, layers from left to right", picture),
      h("figcaption", {}, "Layers from left to right, unit number upwards, which carries no meaning; a mark leads to its unit."));
  };

  /** Numbers (rows × columns) as a small picture: blue below 0, orange above; the largest in size is darkest. */
  atlas.heat = (values, rows, columns, label, size = 84) => {
    const largest = Math.max(1e-30, ...Array.from(values, Math.abs));
    const canvas = h("canvas", { width: columns, height: rows, role: "img", "aria-label": label, "data-tip": label });
    canvas.style.width = `${Math.round(size * Math.min(1, columns / rows))}px`;
    canvas.style.height = `${Math.round(size * Math.min(1, rows / columns))}px`;
    const context = canvas.getContext("2d"), pixels = context.createImageData(columns, rows);
    values.forEach((value, i) => {
      const [r, g, b] = value < 0 ? [0, 90, 180] : [200, 80, 0], w = Math.abs(value) / largest;
      pixels.data.set([255 + (r - 255) * w, 255 + (g - 255) * w, 255 + (b - 255) * w, 255], 4 * i);
    });
    context.putImageData(pixels, 0, 0);
    return canvas;
  };
})();
