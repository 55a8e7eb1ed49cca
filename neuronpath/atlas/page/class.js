// The page of a class: its path as a picture, its images, the classes most and least like it.
"use strict";

(() => {
  const { h } = atlas;

  function card(model, shard, i) {
    const name = shard.images[i], right = shard.pred[i] === shard.label;
    const scores = model.methods.filter((method) => typeof shard.methods[method.key]?.score[i] === "number")
      .map((method) => h("p", {}, `${method.name} ${atlas.number(shard.methods[method.key].score[i])}`));
    return h("li", {},
      h("a", { href: atlas.address(model.name, "image", name) }, atlas.thumbnail(shard.thumbs[i], "", 112), name),
      h("p", {}, `p ${atlas.number(shard.prob[i])}, predicted ${right ? "right" : atlas.title(model, shard.pred[i])}`), scores);
  }

  const BATCH = 100; // cards at once, so that a class of a thousand images still opens at once

  const likeness = (model, caption, pairs) => atlas.table(caption,
    [{ name: "class", value: (row) => row[0], cell: (row) => atlas.classLink(model, row[0]) },
      { name: "cosine", number: true, value: (row) => row[1], cell: (row) => atlas.number(row[1]) }], pairs, { sortable: false });

  atlas.pages.class = async (model, [given]) => {
    const label = Number(given), row = model.byLabel.get(label);
    if (!row || String(label) !== given) return null;
    const shard = await atlas.load(`${model.key}/class/${label}`);
    const found = model.methods.filter((method) => shard.methods[method.key]);
    const figure = h("div", {});
    const draw = (key) => figure.replaceChildren(...atlas.classPicture(model, key, shard.methods[key].path.filter(Boolean)));
    const first = atlas.main(found);
    if (first) draw(first.key);
    let done = 0;
    const cards = () => {
      const from = done;
      done = Math.min(from + BATCH, shard.images.length);
      return Array.from({ length: done - from }, (_, i) => card(model, shard, from + i));
    };
    const title = atlas.title(model, label);
    const similar = model.similar && !model.apart.includes(label) ? await atlas.load(`${model.key}/like/${label}`) : null;
    const near = similar ? similar.labels.map((other, i) => [other, similar.cosines[i] / 1e4]) : [];
    const few = Math.min(8, Math.floor(near.length / 2));
    return { title, trail: [[title, atlas.address(model.name, "class", label)]], content: [
      h("h1", {}, title),
      atlas.facts([["images", String(row.n)],
        ...found.map((method) => [`mean JAS, ${method.name}`, atlas.interval(row.scores[method.key])]),
        ...(row.near === null ? [] : [["near-ties", atlas.percent(row.near)]])]),
      first ? h("h2", {}, "Its path") : null,
      found.length > 1 ? atlas.choice("Method", found.map((method) => [method.key, method.name]), first.key, draw) : null,
      figure,
      h("h2", {}, "Its images"),
      h("p", { class: "note" }, atlas.PROBABILITY),
      atlas.batches(h("ul", { class: "cards" }), cards, () => (done < shard.images.length ? `${shard.images.length - done} more` : "")),
      similar ? [h("h2", {}, "Classes like it"),
        h("p", {}, h("a", { href: atlas.address(model.name, "similar", label) }, "All classes by similarity")),
        h("div", { class: "top" }, h("div", {}, likeness(model, "Most similar", near.slice(0, few))),
          h("div", {}, likeness(model, "Least similar", near.slice(near.length - few).reverse())))] : null,
    ].flat(Infinity).filter(Boolean) };
  };
})();
