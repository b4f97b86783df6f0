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

/* A channel: the code of each voxel, and the value of each code. */
async function readChannel(packed, count) {
  const bytes = await inflate(packed.text);
  const wide = packed.bytes === 2;
  const codes = wide ? new Uint16Array(count) : new Uint8Array(count);
  let code = 0;
  for (let i = 0; i < count; i++) {
    code += wide ? bytes[i] + 256 * bytes[count + i] : bytes[i];
    codes[i] = code; // modulo 256 or 65536, as the differences were taken
    code = codes[i];
  }
  const value = new Float32Array(wide ? 65536 : 256);
  for (let i = 0; i < value.length; i++) {
    if (packed.code === "log") value[i] = i ? packed.low * Math.exp((i - 1) * packed.step) : 0;
    else value[i] = packed.low + i * packed.step;
  }
  return { name: packed.name, title: packed.title, codes, value };
}

class Volume {
  static async read(packed) {
    const volume = new Volume();
    volume.shape = packed.shape;
    volume.affine = packed.affine;
    volume.precision = packed.precision;
    volume.leftOut = packed.left_out;
    volume.count = packed.shape.reduce((a, b) => a * b, 1);
    volume.maps = new Map();
    volume.scans = [];
    for (const one of packed.channels) {
      const channel = await readChannel(one, volume.count);
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
    const t1 = this.maps.get("t1").codes;
    let inside = 0;
    for (let i = 0; i < t1.length; i++) if (t1[i]) inside++;
    const step = Math.max(1, Math.floor(inside / most));
    const found = [];
    for (let i = 0, seen = 0; i < t1.length; i++) if (t1[i] && seen++ % step === 0) found.push(this.at(i));
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
