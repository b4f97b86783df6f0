/* The maps: what scripts/console/pack.py packed. Voxel i of channels is x + X (y + Y z). */

const MAPS = ["pd", "t1", "t2"];
const SD = ["sd_pd", "sd_t1", "sd_t2"];

async function inflate(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/* For each voxel of the head, in order, the three that predict it; where they are air, others that are known. */
function neighbours(inside, shape) {
  const [X, Y] = shape;
  const count = inside.length, before = new Int32Array(3 * count);
  const isInside = new Uint8Array(shape[0] * shape[1] * shape[2]);
  for (const i of inside) isInside[i] = 1;
  let last = -1;
  for (let n = 0; n < count; n++) {
    const i = inside[n], x = i % X, y = Math.floor(i / X) % Y;
    const left = x > 0 && isInside[i - 1] ? i - 1 : -1;
    const front = y > 0 && isInside[i - X] ? i - X : -1;
    const below = i >= X * Y && isInside[i - X * Y] ? i - X * Y : -1;
    const first = left >= 0 ? left : front >= 0 ? front : below >= 0 ? below : last;
    before[3 * n] = first;
    before[3 * n + 1] = front >= 0 ? front : first;
    before[3 * n + 2] = below >= 0 ? below : first;
    last = i;
  }
  return before;
}

/* A channel: the code of each voxel, and the value of each code. */
async function readChannel(packed, count, inside, before) {
  const bytes = await inflate(packed.text);
  const wide = packed.bytes === 2, most = inside.length;
  const codes = new Uint16Array(count);
  let largest = 0;
  for (let n = 0; n < most; n++) {
    const folded = wide ? bytes[n] + 256 * bytes[most + n] : bytes[n];
    const difference = folded & 1 ? -((folded + 1) >> 1) : folded >> 1;
    const x = before[3 * n] < 0 ? 0 : codes[before[3 * n]];
    const y = before[3 * n + 1] < 0 ? 0 : codes[before[3 * n + 1]];
    const z = before[3 * n + 2] < 0 ? 0 : codes[before[3 * n + 2]];
    const code = Math.max(Math.min(x, y), Math.min(Math.max(x, y), z)) + difference;
    codes[inside[n]] = code;
    if (code > largest) largest = code;
  }
  const value = new Float32Array(largest + 1);
  for (let i = 0; i <= largest; i++) {
    if (packed.code === "log") value[i] = i ? packed.low * Math.exp((i - 1) * packed.step) : 0;
    else value[i] = packed.low + i * packed.step;
  }
  return { name: packed.name, title: packed.title, codes, value };
}

/* Numbers of the voxels of the head, in order. */
async function readMask(text, count) {
  const bits = await inflate(text);
  let total = 0;
  for (const byte of bits) for (let b = byte; b; b &= b - 1) total++;
  const inside = new Int32Array(total);
  for (let i = 0, n = 0; i < count; i++) if (bits[i >> 3] & (1 << (i & 7))) inside[n++] = i;
  return inside;
}

class Volume {
  static async read(packed) {
    const volume = new Volume();
    volume.shape = packed.shape;
    volume.affine = packed.affine;
    volume.precision = packed.precision;
    volume.step = packed.step;
    volume.leftOut = packed.left_out;
    volume.count = packed.shape.reduce((a, b) => a * b, 1);
    volume.maps = new Map();
    volume.scans = [];
    volume.inside = await readMask(packed.mask, volume.count);
    const before = neighbours(volume.inside, packed.shape);
    for (const one of packed.channels) {
      const channel = await readChannel(one, volume.count, volume.inside, before);
      one.text = ""; // the text is not needed any more
      if (one.name === "scan") volume.scans.push(channel);
      else volume.maps.set(one.name, channel);
    }
    volume.names = [...volume.maps.keys()];
    volume.hasSd = SD.every((name) => volume.maps.has(name));
    return volume;
  }

  index(x, y, z) {
    return x + this.shape[0] * (y + this.shape[1] * z);
  }

  /* Values of all maps in one voxel, by name. */
  at(index) {
    const found = {};
    for (const [name, channel] of this.maps) found[name] = channel.value[channel.codes[index]];
    return found;
  }

  /* Up to `most` voxels of the head, evenly spread. */
  sample(most) {
    const step = Math.max(1, Math.floor(this.inside.length / most)), found = [];
    for (let n = 0; n < this.inside.length; n += step) found.push(this.at(this.inside[n]));
    return found;
  }

  /* Voxel to mm. */
  position(voxel) {
    return [0, 1, 2].map((i) => this.affine[i][3] + voxel.reduce((sum, v, j) => sum + this.affine[i][j] * v, 0));
  }

  /* Length of the edges of a voxel in mm. */
  get edges() {
    return [0, 1, 2].map((j) => Math.hypot(this.affine[0][j], this.affine[1][j], this.affine[2][j]));
  }
}
