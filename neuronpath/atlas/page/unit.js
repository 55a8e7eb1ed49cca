// The page of a unit: the images that excite it most, and the classes and images whose paths use it.
"use strict";

(() => {
  const { h } = atlas;
  async function maps(model, layer, unit) {
    const block = Math.floor(unit / model.block); // of units whose maps share a file
    if (!model.maps[layer]?.includes(block)) return null;
    return (await atlas.load(`${model.key}/maps/${layer}/${block}`))[unit] ?? null;
  }

  function excited(model, shard, unit, found) {
    const { image, value, token } = shard.top;
    const cards = image[unit].map((index, rank) => {
      if (index < 0) return null;
      const name = shard.images[index], there = shard.there[index];
      const label = shard.labels[index], map = found?.[rank];
      const text = there ? h("a", { href: atlas.address(model.name, "image", name) }, name) : h("span", {}, name);
      const place = token ? `, patch ${token[unit][rank]}` : "";
      const words = map && `${model.mapWords} of this unit over the patches of ${name}; largest in size ${atlas.number(map.scale)}`;
      return h("li", {},
        h("div", { class: "pair" }, atlas.thumbnail(shard.thumbs[index], there ? "" : name, 84),
          map ? atlas.heat(atlas.decoded(map.values, Int8Array), model.side, model.side, words) : null),
        text, h("p", {}, `activation ${atlas.number(value[unit][rank])}${place}`), h("p", {}, atlas.classLink(model, label)));
    }).filter(Boolean);
    return [h("ul", { class: "cards" }, cards),
      token ? h("p", { class: "note" }, "The head reads several patches, counted from 0, row by row: “mean activation” and “images above 0” are of the mean " +
        "over them, the activation of an image is that of the patch where it is highest.") : null,
      found ? h("p", { class: "note" }, `With each image: ${model.mapWords} over its patches; orange above 0, blue below, darkest at the largest size.`) : null];
  }

  /** The images of `label` whose paths by `key` use the unit, in a list. */
  async function users(model, label, key, layer, unit) {
    const shard = await atlas.load(`${model.key}/class/${label}`);
    const uses = (path) => path && path[layer].includes(unit);
    return shard.images.map((name, i) => [name, i]).filter(([, i]) => uses(shard.methods[key]?.path[i])).map(([name, i]) =>
      h("li", {}, h("a", { href: atlas.address(model.name, "image", name) }, atlas.thumbnail(shard.thumbs[i], "", 84), name)));
  }

  function used(model, key, layer, unit, pairs) {
    const list = h("ul", { class: "cards" });
    const rows = pairs.map(([label, count]) => ({ label, count, n: model.byLabel.get(label).counts[key] }));
    let done = 0; // classes
    async function next() {
      const cards = [];
      let i = done;
      for (; i < rows.length && cards.length < 24; i += 1) cards.push(...await users(model, rows[i].label, key, layer, unit));
      done = i;
      return cards;
    }
    return [
      ...atlas.table(`Classes whose images' paths use it: ${rows.length}`, [
        { name: "class", value: (row) => row.label, cell: (row) => atlas.classLink(model, row.label) },
        { name: "images", number: true, value: (row) => row.count },
        { name: "of the class", number: true, value: (row) => row.count / row.n, cell: (row) => atlas.percent(row.count / row.n) },
      ], rows, { start: { column: "images", falling: true } }),
      h("h3", {}, "These images"), ...atlas.batches(list, next, () => (done < rows.length ? "Images of more classes" : ""))];
  }

  atlas.pages.unit = async (model, [givenLayer, givenUnit]) => {
    const layer = Number(givenLayer), unit = Number(givenUnit);
    const is = (text, value, below) => String(value) === text && Number.isInteger(value) && value >= 0 && value < below;
    if (!is(givenLayer, layer, model.depth) || !is(givenUnit, unit, model.H)) return null;
    const shard = await atlas.load(`${model.key}/unit/${layer}`), found = await maps(model, layer, unit);
    const pairsOf = (key) => {
      const flat = shard.uses[key]?.[unit] ?? [];
      return Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]).sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    };
    const total = (pairs) => pairs.reduce((sum, [, count]) => sum + count, 0);
    const rows = model.methods.map((method) => {
      const count = total(pairsOf(method.key)), counts = shard.counts[method.key] ?? [];
      return { key: method.key, name: method.name, count, of: model.means[method.key][3], rank: 1 + counts.filter((other) => other > count).length, units: counts.length };
    });
    const using = rows.filter((row) => row.count);
    const body = h("div", {});
    const draw = (key) => body.replaceChildren(...used(model, key, layer, unit, pairsOf(key)));
    const first = atlas.main(using);
    if (first) draw(first.key);
    const title = `Unit ${unit} of layer ${layer}`;
    const turn = [["Previous unit", unit - 1], ["Next unit", unit + 1]].filter(([, j]) => j >= 0 && j < model.H)
      .map(([text, j]) => h("a", { href: atlas.address(model.name, "unit", layer, j) }, text));
    return { title, trail: [[title, atlas.address(model.name, "unit", layer, unit)]], content: [
      h("h1", {}, title), h("p", { class: "turn" }, turn),
      shard.top ? atlas.facts([["mean activation", atlas.number(shard.mean[unit])], ["images above 0", atlas.percent(shard.share[unit])],
        ["over", atlas.count(model.topCount, "image")]]) : null,
      rows.length ? atlas.table("How often paths use it", [
        { name: "method", value: (row) => row.name },
        { name: "images", number: true, value: (row) => row.count },
        { name: "of all", number: true, value: (row) => row.count / row.of, cell: (row) => atlas.percent(row.count / row.of) },
        { name: "rank among the layer's units", number: true, value: (row) => row.rank,
          cell: (row) => (row.count ? `${row.rank} of ${row.units} used` : "not used") },
      ], rows, { sortable: false }) : null,
      h("h2", {}, "Images that excite it most"),
      shard.top ? excited(model, shard, unit, found) : h("p", {}, "Not known: this atlas was made without top_images.npz (scripts/top_images.py)."),
      h("h2", {}, "Whose paths use it"),
      using.length ? [using.length > 1 ? atlas.choice("Method", using.map((row) => [row.key, row.name]), first.key, draw) : null, body]
        : h("p", {}, "No image's path uses it."),
    ].flat(Infinity).filter(Boolean) };
  };
})();
