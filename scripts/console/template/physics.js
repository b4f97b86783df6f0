/* The signal of a voxel and its standard deviation. EQUATIONS were traced from Python's functions. */

const STEP = 0.01; // of the central differences, in the natural logarithm of a map

class Contrast {
  /* name: of the sequence; row: its row of the table; values: of its fields. */
  constructor(name, row, values) {
    this.name = name;
    this.row = row;
    this.equation = EQUATIONS[name];
    this.constants = this.equation.settings(...Object.keys(row.fields).map((field) => values[field]));
  }

  signal(pd, t1, t2, voxel) {
    const options = this.row.options.map((name) => voxel[name]);
    return this.equation.signal(pd, t1, t2, ...options, this.constants);
  }

  /* What a scanner stores: a magnitude, unless the image has a sign by definition. */
  value(voxel) {
    const signal = this.signal(voxel.pd, voxel.t1, voxel.t2, voxel);
    return this.row.signed ? signal : Math.abs(signal);
  }

  /* Linear propagation: sum over the maps of (dS / d ln map * sd)^2; errors of the maps are taken as independent. */
  sd(voxel) {
    if (!(voxel.t1 > 0)) return 0;
    const up = Math.exp(STEP), down = Math.exp(-STEP);
    const { pd, t1, t2 } = voxel;
    const by = [
      this.signal(pd * up, t1, t2, voxel) - this.signal(pd * down, t1, t2, voxel),
      this.signal(pd, t1 * up, t2, voxel) - this.signal(pd, t1 * down, t2, voxel),
      this.signal(pd, t1, t2 * up, voxel) - this.signal(pd, t1, t2 * down, voxel),
    ];
    return Math.hypot(...by.map((difference, i) => (difference / (2 * STEP)) * voxel[SD[i]]));
  }
}

/* Brightness of a sample of the head: the mean of all for the SNR; quantiles for the window and for what is called
   bright, of voxels that are not fat, whose T1 is shorter than that of any other tissue. */
const LONGEST_T1_OF_FAT = 0.5;

function statistics(contrast, sample) {
  const values = Float64Array.from(sample, (voxel) => contrast.value(voxel));
  const mean = values.reduce((sum, value) => sum + Math.abs(value), 0) / Math.max(1, values.length);
  const lean = values.filter((_, i) => sample[i].t1 > LONGEST_T1_OF_FAT);
  const sorted = (lean.length ? lean : values).sort();
  const quantile = (q) => (sorted.length ? sorted[Math.round(q * (sorted.length - 1))] : 0);
  const bright = Math.max(Math.abs(quantile(0.98)), Math.abs(quantile(0.02)));
  return { mean, bright, low: contrast.row.signed ? -bright : 0, high: 1.1 * bright };
}
