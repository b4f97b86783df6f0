/* The viewer: its state, and what each control does to it. */

const STATISTICS = 4096; // voxels from which brightness and noise are found

class Viewer {
  constructor(content, volume) {
    this.about = content.about;
    this.volume = volume;
    this.renderer = makeRenderer(volume);
    this.sample = volume.sample(STATISTICS);
    this.cross = this.middle = middle(volume);
    [this.window, this.level, this.snr, this.blend, this.tool] = [1, 0.5, 30, 0.5, "cross"];
    this.query = (id) => document.getElementById(id);
    this.planes = PLANES.filter((kind) => volume.shape[kind.across] > 1 && volume.shape[kind.down] > 1)
      .map((kind) => new Plane(kind, volume, this));
    this.query("planes").prepend(...this.planes.map((plane) => plane.element));
    this.controls();
    const groups = [...(content.about.scans.length ? [this.ownScans(content.about.scans)] : []), ...content.table.presets];
    this.settings = new Settings(content.table.sequences, groups, (preset) => this.settled(preset));
    this.settings.take(this.settings.first("mprage"));
    this.describeRun();
  }

  ownScans(scans) {
    const source = "what is known of the scans of this session; select one to compare it with its equation";
    return { name: "scans of this session", source, settings: scans };
  }

  controls() {
    const names = this.planes.map((plane) => plane.name);
    const all = this.planes.length > 1 ? [["All", "All"], ...names.map((name) => [name, name])] : [];
    const narrow = matchMedia("(max-width: 800px)").matches && all.length;
    radios(this.query("layout"), "layout", all, narrow ? names[0] : "All", (name) => this.layOut(name));
    this.layOut(narrow || !all.length ? names[0] : "All");
    radios(this.query("tool"), "tool", [["cross", "Crosshair"], ["window", "Window"]], "cross",
      (tool) => (this.tool = tool));
    const share = { unit: "%", factor: 100, decimals: 3, scale: "linear" };
    const slider = (place, field, changed) => {
      const made = new Slider(field, (value) => changed(Math.min(field.high, Math.max(field.low, value))));
      this.query(place).append(made.element);
      return made;
    };
    const of = "of the bright level of the head";
    this.windowSlider = slider("window-sliders", { ...share, label: "Window", name: `width, ${of}`, low: 0.01, high: 3 },
      (value) => this.setWindow(value, this.level));
    this.levelSlider = slider("window-sliders", { ...share, label: "Level", name: `middle, ${of}`, low: -1.5, high: 2 },
      (value) => this.setWindow(this.window, value));
    this.noiseSlider = slider("noise-sliders",
      { label: "SNR", name: "mean signal of the head over the noise", unit: "", factor: 1, low: 1, high: 200, decimals: 1, scale: "log" },
      (value) => { this.snr = value; this.noiseSlider.show(value); this.query("noisy").checked = true; this.redraw(); });
    this.noiseSlider.show(this.snr);
    this.blendSlider = slider("blend-sliders", { ...share, label: "Share", name: "of the acquired scan", low: 0, high: 1 },
      (value) => { this.blend = value; this.blendSlider.show(value); this.redraw(); });
    this.blendSlider.show(this.blend);
    for (const id of ["noisy", "overlay", "compare", "scan"]) this.query(id).addEventListener("change", () => this.redraw());
    this.query("auto").addEventListener("change", () => this.followed());
    this.query("uncertainty").hidden = false;
    if (!this.volume.hasSd) {
      this.query("overlay").disabled = true;
      this.query("scale").textContent = "These maps have no standard deviations: they are no estimates, or none were written.";
    }
    this.volume.scans.forEach((scan, i) => this.query("scan").append(make("option", { value: i }, scan.title)));
    this.query("comparison").hidden = !this.volume.scans.length;
    this.query("png").addEventListener("click", () => this.savePicture());
    this.query("json").addEventListener("click", () => {
      const text = `${this.query("sidecar").textContent}\n`;
      save(`${this.about.name}_acq-console_${this.settings.suffix}.json`, new Blob([text], { type: "application/json" }));
    });
    this.query("copy").addEventListener("click", () => this.copyCommand());
  }

  layOut(name) {
    for (const plane of this.planes) plane.element.hidden = name !== "All" && plane.name !== name;
    this.query("planes").classList.toggle("one", name !== "All");
    this.redraw();
  }

  /* After a change of the settings; preset is null where it was a slider. */
  settled(preset) {
    const { sequence, row, values } = this.settings;
    this.contrast = new Contrast(sequence, row, values);
    this.statistics = statistics(this.contrast, this.sample);
    if (preset !== null && "scan" in preset) this.query("scan").value = preset.scan;
    this.query("equation").textContent = row.equation;
    this.query("known-limits").textContent = `Known limits: ${row.known_limits}`;
    this.query("noise").disabled = row.signed;
    if (this.query("auto").checked || !this.unit) this.followed();
    this.redraw();
  }

  /* Window and level are shares of the bright level, which stays where they do not follow the contrast. */
  followed() {
    if (this.query("auto").checked || !this.unit) {
      const { low, high, bright } = this.statistics;
      this.unit = bright || 1;
      [this.window, this.level] = [tidy((high - low) / this.unit || 1, 3), tidy((high + low) / 2 / this.unit, 3)];
    }
    this.windowSlider.show(this.window);
    this.levelSlider.show(this.level);
    this.redraw();
  }

  setWindow(window, level) {
    this.query("auto").checked = false;
    [this.window, this.level] = [Math.min(3, Math.max(0.01, window)), Math.min(2, Math.max(-1.5, level))]
      .map((share) => tidy(share, 3));
    this.windowSlider.show(this.window);
    this.levelSlider.show(this.level);
    this.redraw();
  }

  drag(across, up) {
    this.setWindow(this.window * Math.exp(across), this.level - up * this.window);
  }

  go(voxel) {
    this.cross = voxel.map((v, i) => Math.min(this.volume.shape[i] - 1, Math.max(0, v)));
    this.redraw();
  }

  hover(voxel) {
    this.under = voxel;
    this.read();
  }

  /* One drawing for all that happens before the next frame. */
  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (this.settings && this.contrast) this.draw();
    });
  }

  get look() {
    const { statistics, volume } = this;
    const low = (this.level - this.window / 2) * this.unit, high = (this.level + this.window / 2) * this.unit;
    const noisy = this.query("noisy").checked && !this.contrast.row.signed;
    const compare = volume.scans.length ? this.query("compare").value : "none";
    const scan = compare === "none" ? null : volume.scans[Number(this.query("scan").value)];
    const top = scan ? scan.value[scan.value.length - 1] : 1, share = this.unit / (statistics.high || 1);
    return {
      low, high, compare, scan, blend: this.blend,
      scanLow: top * (this.level - this.window / 2) * share, scanHigh: top * (this.level + this.window / 2) * share,
      sigma: noisy ? statistics.mean / this.snr : 0,
      bright: this.query("overlay").checked && volume.hasSd ? statistics.bright : 0,
    };
  }

  draw() {
    const look = this.look;
    try {
      for (const plane of this.planes) plane.draw(this.renderer, this.contrast, look);
    } catch (error) {
      if (this.renderer instanceof CanvasRenderer) throw error;
      console.warn(error.message);
      this.renderer = new CanvasRenderer(this.volume);
      this.describeRun();
      return this.draw();
    }
    this.query("blend-sliders").hidden = look.compare !== "blend";
    this.query("noise-sliders").hidden = !this.query("noisy").checked;
    if (look.bright) {
      const most = digits(look.bright * MOST_SD, 3);
      this.query("scale").replaceChildren("0 ", make("span", { className: "legend" }),
        ` ${most} and more (${100 * MOST_SD} % of the bright level of the head): one standard deviation of the signal, ` +
        "by linear propagation; errors of PD, T1 and T2 are taken as independent.");
    } else if (this.volume.hasSd) this.query("scale").textContent = "";
    const snr = this.query("noisy").checked && !this.contrast.row.signed ? this.snr : 0;
    this.query("command").textContent = command(this.about, this.settings, snr);
    this.query("sidecar").textContent = JSON.stringify(sidecar(this.about, this.settings, snr), null, 4);
    this.read();
  }

  read() {
    if (!this.contrast) return;
    const look = this.look;
    showReadout(this.query("readout"), describe(this.volume, this.contrast, this.under || this.cross, look.scan));
  }

  speak() {
    const rows = describe(this.volume, this.contrast, this.cross, this.look.scan);
    this.query("spoken").textContent = rows.map((row) => row.join(" ")).join(", ");
  }

  savePicture() {
    const { row, values } = this.settings;
    const parts = Object.entries(row.fields).map(([field, about]) =>
      `${about.label} ${digits(values[field] * about.factor, 6)} ${about.unit}`.trim());
    const shown = this.planes.filter((plane) => !plane.element.hidden);
    const canvas = picture(shown, this.about.name, [`${row.title}: ${parts.join(", ")}`]);
    canvas.toBlob((blob) => save(`${this.about.name}_acq-console_${this.settings.suffix}.png`, blob));
  }

  async copyCommand() {
    const pre = this.query("command");
    try {
      await navigator.clipboard.writeText(pre.textContent);
      this.query("copied").textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(pre);
      this.query("copied").textContent = "Selected: copy it with the keyboard.";
    }
  }

  describeRun() {
    const { precision, edges, leftOut, shape } = this.volume, { about } = this;
    const kinds = this.volume.names.filter((name) => !SD.includes(name)).length;
    const remarks = [
      `Pictures by ${this.renderer.kind}. The equations were traced from the functions that Python renders with; they ` +
      "are closed forms, so nothing is simplified here. How far each is from a Bloch simulation: docs/signal_accuracy.md.",
      "The equivalent TE of trains of variable flip angles is a setting of its own here: Python finds those of the presets " +
      "by extended phase graphs, the page does not find another when TE or the train change.",
      `Precision of the ${kinds} maps in this page: steps of ${100 * precision.maps} %` +
      (this.volume.hasSd ? `, of the standard deviations ${100 * precision.sd} %` : "") +
      (this.volume.maps.has("fluid") ? `, of the share of fluid ${100 * precision.share} %` : "") +
      `. Values are off by at most half a step. ${shape.join(" × ")} voxels of ${edges.map((edge) => digits(edge)).join(" × ")} mm` +
      (this.volume.step > 1 ? `, one of ${this.volume.step} along each axis: the maps have more. ` : ". ") +
      "Slices follow the axes of the voxels; the patient's right is on the left.",
      `Noise is found from ${this.sample.length} voxels of the head; it is another draw than Python's of the same SNR.`,
      ...(this.volume.scans.length ? [`Scans are stored with ${precision.levels} levels of grey, within the head.`] : []),
      ...(leftOut.length ? [`No room for these scans: ${leftOut.join(", ")}.`] : []),
      ...about.remarks,
      `Made with version ${about.version}.`,
    ];
    this.query("remarks").replaceChildren(...remarks.map((text) => make("li", {}, text)));
  }
}

/* The voxel in the middle of the head. */
function middle(volume) {
  const [X, Y] = volume.shape, sum = [0, 0, 0], count = Math.max(1, volume.inside.length);
  for (const i of volume.inside) {
    sum[0] += i % X;
    sum[1] += Math.floor(i / X) % Y;
    sum[2] += Math.floor(i / (X * Y));
  }
  return sum.map((value) => Math.round(value / count));
}

async function start() {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const content = read("content");
  document.getElementById("name").textContent = content.about.name;
  try {
    if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old: take one of 2023 or later");
    const volume = await Volume.read(read("volume"));
    document.getElementById("volume").remove();
    window.viewer = new Viewer(content, volume);
    document.documentElement.dataset.ready = "true";
  } catch (error) {
    const trouble = document.getElementById("trouble");
    trouble.textContent = `The page could not start: ${error.message}`;
    trouble.hidden = false;
    document.documentElement.dataset.ready = "failed";
    throw error;
  }
}

start();
