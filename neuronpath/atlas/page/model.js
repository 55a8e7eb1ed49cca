// The page of a model: what was run, its classes, its scores, the table of methods.
"use strict";

(() => {
  const { h } = atlas;

  function classes(model) {
    const columns = [
      { name: "label", value: (row) => row.label },
      { name: "class", value: (row) => row.name, cell: (row) => atlas.classLink(model, row.label, row.name) },
      { name: "images", number: true, value: (row) => row.n },
      ...model.methods.map((method) => ({
        name: `mean JAS, ${method.name}`, number: true,
        value: (row) => row.scores[method.key]?.[0] ?? null, cell: (row) => atlas.interval(row.scores[method.key]),
      })),
      ...(model.near ? [{ name: "near-ties", number: true, value: (row) => row.near, cell: (row) => (row.near === null ? "–" : atlas.percent(row.near)) }] : []),
    ];
    return atlas.table(`${atlas.count(model.classes.length, "class", "classes")}, 95 % intervals over the images of each`, columns, model.classes,
      { search: (row) => `${row.label} ${row.name}`, start: { column: "label", falling: false } });
  }

  function scores(model) {
    const columns = [
      { name: "method", value: (row) => row.name },
      { name: "mean JAS [95 % interval]", number: true, value: (row) => model.means[row.key][0], cell: (row) => atlas.interval(model.means[row.key]) },
      { name: "images", number: true, value: (row) => model.means[row.key][3] },
      { name: "near-ties", number: true, value: (row) => model.near?.share[row.key] ?? null,
        cell: (row) => (model.near?.share[row.key] === undefined ? "–" : atlas.percent(model.near.share[row.key])) },
    ];
    const near = model.near ? ` A near-tie is an image in one of whose layers the margin of the choice is below ${model.near.below}: the precision does not tell which unit is better.` : "";
    return [...atlas.table("Joint Attribution Scores of all images", columns, model.methods, { sortable: false }),
      h("p", { class: "note" }, `JAS in units of ${model.unit}.${near}`)];
  }

  function edits(model) {
    const rows = model.table.flatMap((measure) => measure.rows.map((row) => ({ ...row, measure: measure.name })));
    return atlas.table("What removing and doubling the units does, with 95 % intervals",
      [{ name: "measure", value: (row) => row.measure }, { name: "method", value: (row) => row.method }, { name: "value", number: true, value: (row) => row.text }],
      rows, { sortable: false });
  }

  const layers = (model) => atlas.table(`The units that most images use, by ${atlas.main(model.methods).name}`,
    [{ name: "layer", value: (row) => row.layer },
      { name: "unit (images)", value: (row) => row.units.length,
        cell: (row) => row.units.flatMap(([unit, count], i) => [i ? " · " : "", atlas.unitLink(model, row.layer, unit), ` (${count})`]) }],
    model.layers.map((units, layer) => ({ layer, units })), { sortable: false });

  /** What each job's records were made with; a setting that only some have is missing for the others. */
  function jobs(model) {
    const names = [...new Set(model.jobs.flatMap((job) => Object.keys(job.settings)))];
    return atlas.table("By job, as its args.json says", [{ name: "job", value: (job) => job.name },
      ...names.map((name) => ({ name, value: (job) => job.settings[name] ?? "" }))], model.jobs, { sortable: false });
  }

  const notes = (model) => model.notes.map((text) => h("p", { class: "note" }, text));

  atlas.pages.model = (model) => ({
    title: model.name,
    content: [
      h("h1", {}, model.name),
      h("p", {}, model.words),
      model.missing.length ? h("div", { class: "missing" }, h("p", {}, "Not in this atlas:"), h("ul", {}, model.missing.map((text) => h("li", {}, text)))) : null,
      model.methods.length ? [h("h2", {}, "Scores"), scores(model)] : null,
      h("h2", {}, "Classes"),
      model.similar ? h("p", {}, h("a", { href: atlas.address(model.name, "similar") }, "Which classes share their paths: the similarity of all pairs")) : null,
      classes(model),
      model.layers.length ? [h("h2", {}, "Units by layer"), layers(model)] : null,
      model.table.length ? [h("h2", {}, "Methods and edits"), edits(model), atlas.controlNote(model.edits), notes(model)] : null,
      h("h2", {}, "What was run"), model.table.length ? null : notes(model), jobs(model), atlas.facts(model.facts),
    ].flat(Infinity).filter(Boolean),
  });
})();
