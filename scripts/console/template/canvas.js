/* Pictures by the processor, where there is no WebGL 2: the same equation in JavaScript. */

class CanvasRenderer {
  constructor(volume) {
    this.canvas = document.createElement("canvas");
    this.kind = "canvas";
    this.names = volume.names;
    this.hasSd = volume.hasSd;
    this.shape = volume.shape;
  }

  values(slice, contrast, look) {
    const values = new Float32Array(4 * slice.width * slice.height);
    const voxel = {};
    const withSd = this.hasSd && (look.bright > 0 || look.all);
    for (let j = 0, p = 0; j < slice.height; j++) {
      for (let i = 0; i < slice.width; i++, p++) {
        const noisy = look.sigma > 0 && !contrast.row.signed;
        const inside = slice.data[0][4 * p + 1] > 0;
        if (!inside && !noisy) continue;
        let signal = 0;
        if (inside) {
          this.names.forEach((name, n) => (voxel[name] = slice.data[n >> 2][4 * p + (n & 3)]));
          signal = contrast.signal(voxel.pd, voxel.t1, voxel.t2, voxel);
          if (withSd) values[4 * p + 1] = contrast.sd(voxel);
        }
        const [x, y, z] = [0, 1, 2].map((k) => slice.origin[k] + i * slice.across[k] + j * slice.down[k]);
        const index = x + this.shape[0] * (y + this.shape[1] * z);
        const value = contrast.row.signed ? signal : Math.abs(signal);
        values[4 * p] = noisy ? rician(signal, look.sigma, index) : value;
        values[4 * p + 2] = signal;
      }
    }
    return values;
  }

  draw(slice, contrast, look) {
    this.canvas.width = slice.width;
    this.canvas.height = slice.height;
    const picture = new ImageData(slice.width, slice.height), values = this.values(slice, contrast, look);
    for (let p = 0; p < values.length; p += 4) {
      const grey = Math.min(1, Math.max(0, (values[p] - look.low) / (look.high - look.low)));
      const t = look.bright > 0 ? Math.min(1, values[p + 1] / (look.bright * MOST_SD)) : 0;
      const share = 0.55 * t, tint = [1 - 0.15 * t, 0.867 - 0.767 * t, 0.2 - 0.1 * t];
      for (let c = 0; c < 3; c++) picture.data[p + c] = 255 * (grey + share * (tint[c] - grey));
      picture.data[p + 3] = 255;
    }
    this.canvas.getContext("2d").putImageData(picture, 0, 0);
    return this.canvas;
  }
}
