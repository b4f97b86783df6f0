/* What leaves the page: a picture, a BIDS sidecar, a command line. */

/* BIDS keys of the settings. */
function bidsKeys(settings) {
  const keys = {};
  for (const [field, about] of Object.entries(settings.row.fields)) keys[about.key] = settings.values[field];
  if ("EchoesBeforeCentre" in keys) {
    const before = keys.EchoesBeforeCentre;
    delete keys.EchoesBeforeCentre;
    keys.NumberShots = [before, keys.NumberShots - before];
  }
  return keys;
}

/* The request as --render takes it: words and numbers of the table alone, so nothing has to be quoted. */
function command(about, settings, snr) {
  const pairs = { name: "console", suffix: settings.suffix, sequence: settings.sequence, ...bidsKeys(settings) };
  const text = Object.entries(pairs).map(([key, value]) => {
    const words = typeof value === "string" ? `'${value}'` : Array.isArray(value) ? `[${value.join(", ")}]` : value;
    return `'${key}': ${words}`;
  });
  return `${about.command} --render "[{${text.join(", ")}}]"${snr ? ` --noise ${snr}` : ""}`;
}

/* The sidecar that configs/render.json writes of the same request. */
function sidecar(about, settings, snr) {
  const keys = bidsKeys(settings);
  const { row, sequence } = settings;
  const fields = Object.values(row.fields).map((one) => one.key);
  const used = ["pd", "t1", "t2", ...row.options];
  const added = snr && !row.signed ? `with noise, SNR ${snr}` : "without noise";
  return {
    ...keys,
    SignalModel: sequence,
    SignalModelEvidence: `high: sequence ${sequence}`,
    ParameterProvenance: Object.fromEntries(fields.map((key) => [key, "given"])),
    Units: "arbitrary",
    Description: row.note.replace("without noise", added),
    ...about.sidecar,
    Sources: used.filter((name) => name in about.sources).map((name) => about.sources[name]),
  };
}

function save(name, blob) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name.replace(/[^\w.-]/g, "_") });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/* A side of the patient, readable on black and on white. */
function letter(pen, text, x, y) {
  [pen.strokeStyle, pen.lineWidth, pen.fillStyle] = ["#000", 3, "#ffd98a"];
  pen.strokeText(text, x, y);
  pen.fillText(text, x, y);
}

/* The planes that are shown side by side, with what they show written below. */
function picture(planes, title, lines) {
  const pictures = planes.flatMap((plane) => [plane.rendered, plane.acquired].filter((one) => !one.element.hidden)
    .map((one) => ({ plane, image: one.image })));
  const size = 512, text = 22;
  const boxes = pictures.map(({ plane, image }) => {
    const edges = plane.volume.edges;
    const width = image.width * edges[plane.across], height = image.height * edges[plane.down];
    const scale = size / Math.max(width, height);
    return { plane, image, width: Math.round(width * scale), height: Math.round(height * scale) };
  });
  const canvas = make("canvas", {
    width: boxes.reduce((sum, box) => sum + box.width, 0),
    height: Math.max(...boxes.map((box) => box.height)) + text * (lines.length + 1) + 10,
  });
  const pen = canvas.getContext("2d");
  pen.font = "15px system-ui, sans-serif";
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  let left = 0;
  for (const box of boxes) {
    pen.drawImage(box.image, left, 0, box.width, box.height);
    letter(pen, box.plane.left, left + 6, box.height / 2);
    letter(pen, box.plane.right, left + box.width - 20, box.height / 2);
    left += box.width;
  }
  pen.fillStyle = "#ddd";
  [title, ...lines].forEach((line, i) => pen.fillText(line, 8, canvas.height - text * (lines.length - i) - 10, canvas.width - 16));
  return canvas;
}
