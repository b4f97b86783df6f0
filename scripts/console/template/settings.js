/* Sequence and parameters, with the limits of the table: a slider stops where the next step would be refused. */

/* An element with attributes and children; text is always text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const tidy = (value, decimals) => Number(value.toFixed(decimals));
const digits = (value, count = 3) => (value === 0 ? 0 : Number(value.toPrecision(count)));

/* A number that stands beside a range: the same value in the unit that is shown. */
class Slider {
  static count = 0;

  /* field: label, name, unit, factor, low, high, decimals, scale; changed(value) is called with SI values. */
  constructor(field, changed) {
    this.field = field;
    this.changed = changed;
    const id = `slider-${Slider.count++}`;
    const unit = field.unit ? ` [${field.unit}]` : "";
    this.range = make("input", { type: "range", id, min: 0, max: 1000, step: 1 });
    this.number = make("input", { type: "number", step: "any" });
    this.number.setAttribute("aria-label", `${field.label}${unit}, exact`);
    this.why = make("span", { className: "why", id: `${id}-why` });
    for (const input of [this.range, this.number]) input.setAttribute("aria-describedby", this.why.id);
    this.zones = [make("i"), make("i")];
    const label = make("label", { htmlFor: id }, `${field.label} · ${field.name}`);
    const track = make("span", { className: "track" }, this.range, ...this.zones);
    this.element = make("div", { className: "slider" }, label, track, this.number, make("span", {}, field.unit), this.why);
    this.range.addEventListener("input", () => this.changed(this.from(this.range.value / 1000)));
    this.number.addEventListener("change", () => {
      const value = Number(this.number.value) / field.factor;
      if (this.number.value.trim() === "" || !Number.isFinite(value)) this.show(this.value);
      else this.changed(tidy(value, field.decimals));
    });
  }

  /* Place on the track, from 0 to 1, and back; three digits are enough for a hand. */
  place(value) {
    const { low, high, scale } = this.field;
    return scale === "log" ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  }

  from(place) {
    const { low, high, scale, decimals } = this.field;
    const value = scale === "log" ? low * (high / low) ** place : low + place * (high - low);
    return tidy(digits(value), decimals);
  }

  text(value) {
    return String(digits(value * this.field.factor, 6));
  }

  show(value) {
    this.value = value;
    this.range.value = Math.round(1000 * this.place(value));
    this.number.value = this.text(value);
    this.range.setAttribute("aria-valuetext", `${this.text(value)} ${this.field.unit}`);
  }

  /* bounds: low, high and why they are; stopped: whether the user has just been stopped by one. */
  limit(bounds, stopped) {
    const { low, high, unit } = this.field;
    const words = [];
    // The inequality; where it has just stopped the user, its reason too.
    const said = (why) => (stopped ? why : why.split(":")[0]);
    if (bounds.whyLow) words.push(`at least ${this.text(bounds.low)} ${unit} (${said(bounds.whyLow)})`);
    if (bounds.whyHigh) words.push(`at most ${this.text(bounds.high)} ${unit} (${said(bounds.whyHigh)})`);
    this.why.textContent = words.join(", ");
    this.why.title = [bounds.whyLow, bounds.whyHigh].filter(Boolean).join("\n");
    this.element.classList.toggle("stopped", stopped);
    const [left, right] = [this.place(Math.max(low, bounds.low)), this.place(Math.min(high, bounds.high))];
    this.zones[0].style.cssText = `left: 0; width: ${100 * Math.max(0, left)}%`;
    this.zones[1].style.cssText = `right: 0; width: ${100 * Math.max(0, 1 - right)}%`;
    [this.number.min, this.number.max] = [this.text(bounds.low), this.text(bounds.high)];
  }
}

const MAIN_FIELDS = ["te", "te_equivalent", "tr", "ti", "ti2", "flip_angle", "flip_angle2"];

class Settings {
  /* groups: presets; changed() is called after each change. */
  constructor(table, groups, changed) {
    this.table = table;
    this.groups = groups;
    this.changed = changed;
    this.preset = document.getElementById("preset");
    this.choice = document.getElementById("sequence");
    for (const [g, group] of groups.entries()) {
      const options = group.settings.map((one, i) =>
        make("option", { value: `${g}:${i}` }, one.name.includes(one.suffix) ? one.name : `${one.name} (${one.suffix})`));
      this.preset.append(make("optgroup", { label: group.name }, ...options));
    }
    this.preset.append(make("option", { value: "", hidden: true }, "own settings"));
    for (const [name, row] of Object.entries(table)) this.choice.append(make("option", { value: name }, row.title));
    this.preset.addEventListener("change", () => this.take(this.preset.value));
    this.choice.addEventListener("change", () => this.take(this.first(this.choice.value)));
  }

  get row() {
    return this.table[this.sequence];
  }

  /* The first preset of a sequence. */
  first(sequence) {
    for (const [g, group] of this.groups.entries()) {
      const i = group.settings.findIndex((one) => one.sequence === sequence);
      if (i >= 0) return `${g}:${i}`;
    }
    throw new Error(`no preset of ${sequence}`);
  }

  take(place) {
    const [g, i] = place.split(":").map(Number);
    const one = this.groups[g].settings[i];
    this.preset.value = place;
    this.apply(one.sequence, one.values, one.suffix);
    document.getElementById("source").textContent = `Source: ${this.groups[g].source}`;
    this.changed(one);
  }

  apply(sequence, values, suffix) {
    const other = sequence !== this.sequence;
    [this.sequence, this.values, this.suffix] = [sequence, { ...values }, suffix];
    this.choice.value = sequence;
    if (other) this.build();
    this.show();
  }

  build() {
    this.sliders = {};
    const places = { main: document.getElementById("sliders"), train: document.getElementById("train-sliders") };
    for (const place of Object.values(places)) place.replaceChildren();
    for (const [field, about] of Object.entries(this.row.fields)) {
      const slider = new Slider(about, (value) => this.set(field, value));
      slider.element.dataset.field = field;
      this.sliders[field] = slider;
    }
    for (const field of MAIN_FIELDS) if (this.sliders[field]) places.main.append(this.sliders[field].element);
    const rest = Object.keys(this.sliders).filter((field) => !MAIN_FIELDS.includes(field));
    for (const field of rest) places.train.append(this.sliders[field].element);
    document.getElementById("train").hidden = !rest.length;
  }

  /* Smallest and largest value of one field beside the others, and why; every limit is linear in each field. */
  bounds(field) {
    const { low, high, decimals } = this.row.fields[field];
    const unit = 10 ** -decimals;
    const found = { low, high, whyLow: "", whyHigh: "" };
    this.row.limits.forEach((limit, i) => {
      if (!limit.fields.includes(field)) return;
      const room = (value) => {
        const values = { ...this.values, [field]: value };
        return EQUATIONS[this.sequence].rooms[i](...limit.fields.map((name) => values[name]));
      };
      const slope = (room(high) - room(low)) / (high - low);
      if (Math.abs(slope) < 1e-12) return;
      const root = low - room(low) / slope;
      // Inwards to a number that can be written, and off the limit itself where that is refused.
      let bound = slope < 0 ? Math.floor(root / unit + 1e-6) * unit : Math.ceil(root / unit - 1e-6) * unit;
      if (limit.strict && Math.abs(bound - root) < 1e-6 * unit) bound += slope < 0 ? -unit : unit;
      bound = tidy(bound, decimals);
      if (slope < 0 && bound < found.high) [found.high, found.whyHigh] = [bound, limit.why];
      if (slope > 0 && bound > found.low) [found.low, found.whyLow] = [bound, limit.why];
    });
    return found;
  }

  set(field, wanted) {
    const bounds = this.bounds(field);
    const value = Math.min(bounds.high, Math.max(bounds.low, wanted));
    this.values[field] = value;
    this.preset.value = "";
    document.getElementById("source").textContent = "";
    this.show(value === wanted ? null : field);
    this.changed(null);
  }

  show(stopped = null) {
    for (const [field, slider] of Object.entries(this.sliders)) {
      slider.show(this.values[field]);
      slider.limit(this.bounds(field), field === stopped);
    }
  }
}

/* Radio buttons in a fieldset. */
function radios(fieldset, name, choices, chosen, changed) {
  for (const [value, text] of choices) {
    const input = make("input", { type: "radio", name, value, checked: value === chosen });
    input.addEventListener("change", () => changed(value));
    fieldset.append(make("label", {}, input, text));
  }
}
