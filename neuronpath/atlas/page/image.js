// The page of an image: its paths by all methods, unit by unit, and what edits of them did.
"use strict";

(() => {
  const { h } = atlas;

  function layers(model, key, path, act, margin) {
    const method = model.methods.find((one) => one.key === key);
    const rows = path.map((units, layer) => ({ layer, units, act: act?.[layer], margin: margin?.[layer] }));
    const tied = (row) => model.near && row.margin !== undefined && Math.abs(row.margin) < model.near.below;
    const columns = [
      { name: "layer", value: (row) => row.layer },
      { name: "unit", number: true, value: (row) => row.units[0], cell: (row) => row.units.flatMap((unit, k) => [k ? ", " : "", atlas.unitLink(model, row.layer, unit)]) },
      ...(act ? [{ name: "activation", number: true, value: (row) => row.act[0], cell: (row) => row.act.map((value) => atlas.number(value)).join(", ") }] : []),
      ...(margin ? [{ name: "margin", number: true, value: (row) => row.margin,
        cell: (row) => h("span", { class: tied(row) ? "tie" : null }, `${tied(row) ? "near-tie " : ""}${Math.abs(row.margin) < 0.001 && row.margin ? row.margin.toExponential(1) : atlas.number(row.margin)}`) }] : []),
    ];
    return atlas.table(`${method.name}, layer by layer`, columns, rows, { sortable: false });
  }

  function edits(model, shard, i) {
    const rows = model.edits.filter(({ key }) => shard.edits[key]?.original[i] !== null && shard.edits[key] !== undefined);
    if (!rows.length) return null;
    const operations = model.operations.filter(({ key }) => rows.some((row) => shard.edits[row.key][key]));
    const after = (row, key) => shard.edits[row.key][key]?.[i] ?? null;
    const columns = [
      { name: "method", value: (row) => row.name },
      { name: "p before", number: true, value: (row) => shard.edits[row.key].original[i], cell: (row) => atlas.number(shard.edits[row.key].original[i]) },
      ...operations.flatMap(({ key, noun }) => [
        { name: `p after ${noun}`, number: true, value: (row) => after(row, key), cell: (row) => atlas.number(after(row, key)) },
        { name: "predicted then", value: (row) => after(row, `${key}_label`),
          cell: (row) => (after(row, `${key}_label`) === null ? "–" : atlas.title(model, after(row, `${key}_label`))) },
      ]),
    ];
    return [h("h2", {}, "What edits of its paths did"),
      atlas.table("Probability of the label before and after, all of a path's units at once", columns, rows, { sortable: false }), atlas.controlNote(rows)];
  }

  atlas.pages.image = async (model, [name]) => {
    const notes = await atlas.load(`${model.key}/find/${atlas.bucket(name, model.find)}`);
    const label = new Map(notes).get(name);
    if (label === undefined) return null;
    const shard = await atlas.load(`${model.key}/class/${label}`), i = shard.images.indexOf(name);
    const of = {};
    for (const method of model.methods) {
      const found = shard.methods[method.key];
      if (found?.path[i]) of[method.key] = { path: found.path[i], act: found.act?.[i], margin: found.margin?.[i], score: found.score?.[i] };
    }
    const keys = Object.keys(of);
    const turn = [["Previous image of the class", i - 1], ["Next image of the class", i + 1]].filter(([, j]) => shard.images[j] !== undefined)
      .map(([text, j]) => h("a", { href: atlas.address(model.name, "image", shard.images[j]) }, text));
    return { title: name, trail: [[atlas.title(model, label), atlas.address(model.name, "class", label)], [name, atlas.address(model.name, "image", name)]], content: [
      h("h1", {}, name),
      h("div", { class: "top" }, atlas.thumbnail(shard.thumbs[i], `the image ${name}`, 224),
        h("div", {}, h("dl", { class: "facts" },
          h("div", {}, h("dt", {}, "class"), h("dd", {}, atlas.classLink(model, label))),
          h("div", {}, h("dt", {}, "predicted"), h("dd", {}, atlas.classLink(model, shard.pred[i]))),
          h("div", {}, h("dt", {}, "p of the target"), h("dd", {}, atlas.number(shard.prob[i]))),
          keys.map((key) => h("div", {}, h("dt", {}, `JAS, ${model.methods.find((method) => method.key === key).name}`), h("dd", {}, atlas.number(of[key].score)))),
        ), h("p", { class: "note" }, atlas.PROBABILITY), h("p", { class: "turn" }, turn))),
      keys.length ? [h("h2", {}, "Its paths"), atlas.imagePicture(model, of)] : null,
      edits(model, shard, i),
      keys.length ? [h("h2", {}, "Layer by layer"),
        keys.some((key) => of[key].margin) ? h("p", { class: "note" }, "Margin: how clearly the layer's unit was chosen before the next best; 0 is a tie, below 0 the next was better beside the same earlier units (beams).") : null,
        h("div", { class: "top" }, keys.map((key) => h("div", {}, layers(model, key, of[key].path, of[key].act, of[key].margin))))] : null,
    ].flat(Infinity).filter(Boolean) };
  };
})();
