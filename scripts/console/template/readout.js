/* Values of one voxel in words: maps with their standard deviations, the contrast, the acquired scan. */

function withSd(value, sd, factor, unit) {
  if (!(value > 0)) return "undefined";
  const shown = value * factor;
  const spread = sd === undefined ? "" : ` ± ${digits(shown * sd, 2)}`;
  return `${digits(shown, 4)}${spread} ${unit}`.trim();
}

/* Pairs of a name and a text. */
function describe(volume, contrast, voxel, scan) {
  const index = volume.index(...voxel), values = volume.at(index);
  const place = volume.position(voxel).map((mm) => mm.toFixed(0)).join(", ");
  const rows = [
    ["RAS", `${place} mm`],
    ["PD", withSd(values.pd, values.sd_pd, 1, "")],
    ["T1", withSd(values.t1, values.sd_t1, 1000, "ms")],
    ["T2", withSd(values.t2, values.sd_t2, 1000, "ms")],
  ];
  if ("t2_star" in values) rows.push(["T2*", withSd(values.t2_star, undefined, 1000, "ms")]);
  if ("b1" in values) rows.push(["B1+", String(digits(values.b1, 3))]);
  if (values.fluid > 0) rows.push(["fluid", `${digits(100 * values.fluid, 3)} %`]);
  const signal = contrast.value(values);
  const spread = volume.hasSd && values.t1 > 0 ? ` ± ${digits(contrast.sd(values), 2)}` : "";
  rows.push(["signal", `${digits(signal, 4)}${spread}`]);
  if (scan) rows.push(["acquired", String(digits(scan.value[scan.codes[index]], 3))]);
  return rows;
}

function showReadout(element, rows) {
  element.replaceChildren(...rows.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text))));
}
