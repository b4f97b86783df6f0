/* Axial, coronal and sagittal slices, as radiologists look at them: the patient's right is on the left. */

/* axis: that the slices follow; across, down: axes of the picture, which both run against the voxels of RAS. */
const PLANES = [
  { name: "Axial", axis: 2, across: 0, down: 1, left: "R", right: "L", top: "A" },
  { name: "Coronal", axis: 1, across: 0, down: 2, left: "R", right: "L", top: "S" },
  { name: "Sagittal", axis: 0, across: 1, down: 2, left: "A", right: "P", top: "S" },
];

const unitVector = (axis, length) => [0, 1, 2].map((i) => (i === axis ? length : 0));

class Plane {
  constructor(kind, volume, viewer) {
    Object.assign(this, kind);
    this.volume = volume;
    this.viewer = viewer;
    const [width, height] = [volume.shape[this.across], volume.shape[this.down]];
    const sets = Math.ceil(volume.names.length / 4);
    this.slice = {
      width, height, fresh: true,
      data: Array.from({ length: sets }, () => new Float32Array(4 * width * height)),
      across: unitVector(this.across, -1), down: unitVector(this.down, -1), origin: [0, 0, 0],
    };
    this.rendered = this.picture("rendered");
    this.acquired = this.picture("acquired");
    this.acquired.element.hidden = true;
    const depth = volume.shape[this.axis];
    this.range = make("input", { type: "range", min: 0, max: depth - 1, step: 1, hidden: depth === 1 });
    this.range.setAttribute("aria-label", `${this.name} slice`);
    this.output = make("output");
    this.range.addEventListener("input", () => this.move(Number(this.range.value)));
    const caption = make("figcaption", {}, this.name, this.range, this.output);
    const pictures = make("div", { className: "pictures" }, this.rendered.element, this.acquired.element);
    this.element = make("figure", {}, pictures, caption);
    new ResizeObserver(() => this.place()).observe(pictures);
  }

  picture(what) {
    const image = make("canvas", { width: this.slice.width, height: this.slice.height });
    const marks = make("canvas");
    const words = [["left", this.left], ["right", this.right], ["top", this.top], ["what", what]];
    const spans = words.map(([className, text]) => make("span", { className, ariaHidden: "true" }, text));
    const element = make("div", { className: "picture", tabIndex: 0 }, image, marks, ...spans);
    element.setAttribute("role", "img");
    element.setAttribute("aria-label", `${this.name} slice, ${what}`);
    this.listen(element);
    return { element, image, marks };
  }

  listen(element) {
    let from = null;
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      const windowing = event.button === 2 || event.shiftKey || this.viewer.tool === "window";
      from = { x: event.clientX, y: event.clientY, windowing };
      if (!windowing) this.point(element, event, true);
    });
    element.addEventListener("pointermove", (event) => {
      if (from === null) return this.point(element, event, false);
      if (!from.windowing) return this.point(element, event, true);
      this.viewer.drag((event.clientX - from.x) / 250, (from.y - event.clientY) / 250);
      [from.x, from.y] = [event.clientX, event.clientY];
    });
    for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => (from = null));
    element.addEventListener("pointerleave", () => this.viewer.hover(null));
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.move(this.viewer.cross[this.axis] + Math.sign(event.deltaY) * (this.axis === 0 ? 1 : -1));
    }, { passive: false });
    element.addEventListener("keydown", (event) => this.key(event));
  }

  /* Voxel under the pointer: the values there are shown, and the crosshair goes there when it is to. */
  point(element, event, cross) {
    const box = element.querySelector("canvas").getBoundingClientRect();
    const i = Math.floor(((event.clientX - box.left) / box.width) * this.slice.width);
    const j = Math.floor(((event.clientY - box.top) / box.height) * this.slice.height);
    if (i < 0 || j < 0 || i >= this.slice.width || j >= this.slice.height) return this.viewer.hover(null);
    const voxel = [0, 1, 2].map((k) => this.slice.origin[k] + i * this.slice.across[k] + j * this.slice.down[k]);
    if (cross) this.viewer.go(voxel);
    this.viewer.hover(voxel);
  }

  key(event) {
    const moves = {
      ArrowLeft: [this.across, 1], ArrowRight: [this.across, -1], ArrowUp: [this.down, 1], ArrowDown: [this.down, -1],
      PageUp: [this.axis, 1], PageDown: [this.axis, -1],
    };
    const windows = { "+": [0.05, 0], "-": [-0.05, 0], "[": [0, -0.05], "]": [0, 0.05] };
    if (moves[event.key]) {
      const [axis, by] = moves[event.key];
      const voxel = [...this.viewer.cross];
      voxel[axis] += by;
      this.viewer.go(voxel);
      this.viewer.speak();
    } else if (event.key === "Home") this.viewer.go(this.viewer.middle);
    else if (windows[event.key]) this.viewer.drag(...windows[event.key]);
    else return;
    event.preventDefault();
  }

  move(slice) {
    const voxel = [...this.viewer.cross];
    voxel[this.axis] = slice;
    this.viewer.go(voxel);
  }

  /* Reads the slice through the crosshair, if it is another than before. */
  load() {
    const { volume, slice } = this, number = this.viewer.cross[this.axis];
    this.range.value = number;
    const mm = volume.position(this.viewer.cross)[this.axis];
    this.output.textContent = `${number + 1}/${volume.shape[this.axis]}`;
    this.range.setAttribute("aria-valuetext", `${number + 1} of ${volume.shape[this.axis]}, ${mm.toFixed(0)} mm`);
    if (this.number === number) return;
    this.number = number;
    slice.origin = unitVector(this.axis, number);
    slice.origin[this.across] = slice.width - 1;
    slice.origin[this.down] = slice.height - 1;
    this.each((p, index) => {
      volume.names.forEach((name, n) => {
        const channel = volume.maps.get(name);
        slice.data[n >> 2][4 * p + (n & 3)] = channel.value[channel.codes[index]];
      });
    });
    slice.fresh = true;
  }

  /* Calls visit(pixel, voxel) for all pixels. */
  each(visit) {
    const { slice, volume } = this, [X, Y] = volume.shape;
    const stride = (v) => v[0] + X * (v[1] + Y * v[2]);
    const [start, right, below] = [slice.origin, slice.across, slice.down].map(stride);
    for (let j = 0, p = 0; j < slice.height; j++) {
      for (let i = 0, index = start + j * below; i < slice.width; i++, p++, index += right) visit(p, index);
    }
  }

  draw(renderer, contrast, look) {
    if (this.element.hidden) return;
    this.load();
    const target = this.rendered.image.getContext("2d");
    target.drawImage(renderer.draw(this.slice, contrast, look), 0, 0);
    this.acquired.element.hidden = look.compare !== "side";
    if (look.compare !== "none") this.drawScan(look);
    if (look.compare === "blend") {
      target.globalAlpha = look.blend;
      target.drawImage(this.acquired.image, 0, 0);
      target.globalAlpha = 1;
    }
    this.mark();
  }

  drawScan(look) {
    const { slice } = this, picture = new ImageData(slice.width, slice.height), { codes, value } = look.scan;
    const [low, high] = [look.scanLow, look.scanHigh];
    this.each((p, index) => {
      const grey = (255 * (value[codes[index]] - low)) / (high - low);
      picture.data.fill(grey, 4 * p, 4 * p + 3);
      picture.data[4 * p + 3] = 255;
    });
    this.acquired.image.getContext("2d").putImageData(picture, 0, 0);
  }

  /* Fits the pictures into their boxes, in mm. */
  place() {
    const edges = this.volume.edges;
    const width = this.slice.width * edges[this.across], height = this.slice.height * edges[this.down];
    for (const { element, image, marks } of [this.rendered, this.acquired]) {
      const scale = Math.min(element.clientWidth / width, element.clientHeight / height) || 0;
      const [w, h] = [width * scale, height * scale];
      const left = (element.clientWidth - w) / 2, top = (element.clientHeight - h) / 2;
      for (const canvas of [image, marks]) {
        canvas.style.cssText = `left: ${left}px; top: ${top}px; width: ${w}px; height: ${h}px`;
      }
      const ratio = window.devicePixelRatio || 1;
      [marks.width, marks.height] = [Math.max(1, Math.round(w * ratio)), Math.max(1, Math.round(h * ratio))];
    }
    this.mark();
  }

  mark() {
    const { cross } = this.viewer;
    const x = (this.slice.width - 0.5 - cross[this.across]) / this.slice.width;
    const y = (this.slice.height - 0.5 - cross[this.down]) / this.slice.height;
    for (const { marks } of [this.rendered, this.acquired]) {
      const pen = marks.getContext("2d"), [w, h] = [marks.width, marks.height];
      const gap = 8 * (window.devicePixelRatio || 1), [u, v] = [Math.round(x * w) + 0.5, Math.round(y * h) + 0.5];
      pen.clearRect(0, 0, w, h);
      pen.strokeStyle = "rgba(110, 200, 255, 0.75)";
      pen.beginPath();
      for (const [a, b, c, d] of [[0, v, u - gap, v], [u + gap, v, w, v], [u, 0, u, v - gap], [u, v + gap, u, h]]) {
        pen.moveTo(a, b);
        pen.lineTo(c, d);
      }
      pen.stroke();
    }
  }
}
