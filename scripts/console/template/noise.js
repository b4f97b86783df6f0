/* Rician noise: two normal numbers for each voxel, the same at each visit. The shader has the same functions. */

const HASH = `
uint hash(uint v) {
  uint s = v * 747796405u + 2891336453u;
  uint w = ((s >> ((s >> 28u) + 4u)) ^ s) * 277803737u;
  return (w >> 22u) ^ w;
}
vec2 normals(uint voxel) {
  float u = (float(hash(2u * voxel) >> 8) + 0.5) / 16777216.0;
  float a = 6.283185307 * float(hash(2u * voxel + 1u) >> 8) / 16777216.0;
  return sqrt(-2.0 * log(u)) * vec2(cos(a), sin(a));
}
`;

function hash(v) {
  const s = (Math.imul(v, 747796405) + 2891336453) >>> 0;
  const w = Math.imul((s >>> ((s >>> 28) + 4)) ^ s, 277803737) >>> 0;
  return ((w >>> 22) ^ w) >>> 0;
}

function normals(voxel) {
  const u = ((hash(2 * voxel) >>> 8) + 0.5) / 16777216;
  const a = (6.283185307 * (hash(2 * voxel + 1) >>> 8)) / 16777216;
  const r = Math.sqrt(-2 * Math.log(u));
  return [r * Math.cos(a), r * Math.sin(a)];
}

function rician(signal, sigma, voxel) {
  const [real, imaginary] = normals(voxel);
  return Math.hypot(signal + sigma * real, sigma * imaginary);
}
