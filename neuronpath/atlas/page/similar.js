// The similarity of classes: all pairs as a picture, and one class's others in order.
"use strict";

(() => {
  const { h } = atlas;

  atlas.pages.similar = async (model, [given]) => {
    const label = given === undefined ? null : Number(given);
    if (!model.similar || (given !== undefined && (String(label) !== given || !model.byLabel.has(label) || model.apart.includes(label)))) return null;
    const { order, cosines } = await atlas.load(`${model.key}/similar`);
    const matrix = atlas.matrix(model, order, atlas.decoded(cosines, Uint16Array), label);
    const link = ["Similarity", atlas.address(model.name, "similar")];
    const head = label === null ? "Which classes share their paths" : `Classes by similarity to ${atlas.title(model, label)}`;
    const one = label === null ? null : await atlas.load(`${model.key}/like/${label}`);
    const rows = one && one.labels.map((other, i) => ({ label: other, cosine: one.cosines[i] / 1e4 }));
    return {
      title: head, after: matrix.draw,
      trail: label === null ? [link] : [link, [atlas.title(model, label), atlas.address(model.name, "similar", label)]],
      content: [
        h("h1", {}, head),
        h("p", {}, `Cosine of two classes' unit counts, over the ${model.similar} of their images; clustered, so that alike classes stand side by side.`),
        label === null ? null : h("p", {}, atlas.classLink(model, label, `The page of ${atlas.title(model, label)}`)),
        matrix.element,
        rows ? [h("h2", {}, "All others in order"), atlas.table(`Cosine with ${atlas.title(model, label)}`, [
          { name: "class", value: (row) => atlas.title(model, row.label), cell: (row) => atlas.classLink(model, row.label) },
          { name: "cosine", number: true, value: (row) => row.cosine, cell: (row) => atlas.number(row.cosine) },
          { name: "its list", value: () => "", cell: (row) => h("a", { href: atlas.address(model.name, "similar", row.label), "aria-label": `classes like ${atlas.title(model, row.label)}` }, "classes like it") },
        ], rows, { search: (row) => atlas.title(model, row.label) })] : null,
      ].flat(Infinity).filter(Boolean),
    };
  };
})();
