/* Pictures by WebGL 2: the signal equation in a fragment shader, a program for each sequence. */

const VERTEX = `#version 300 es
in vec2 corner;
void main() { gl_Position = vec4(corner, 0.0, 1.0); }
`;

/* Functions that GLSL lacks or computes with few digits. */
const PRECISE = `
float precise_expm1(float x) {
  if (abs(x) > 0.5) return exp(x) - 1.0;
  return x * (1.0 + x / 2.0 * (1.0 + x / 3.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0 * (1.0 + x / 6.0 * (1.0 + x / 7.0
    * (1.0 + x / 8.0)))))));
}
float precise_tanh(float x) {
  if (abs(x) > 10.0) return sign(x);
  float e = precise_expm1(2.0 * x);
  return e / (e + 2.0);
}
float precise_log1p(float x) {
  if (abs(x) > 0.3) return log(1.0 + x);
  float s = x / (2.0 + x);
  float q = s * s;
  return 2.0 * s * (1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q / 9.0))));
}
float precise_sin(float x) {
  float y = x - 6.283185307 * floor(x / 6.283185307 + 0.5);
  y = abs(y) > 1.570796327 ? sign(y) * (3.141592654 - abs(y)) : y;
  float q = y * y;
  return y * (1.0 - q / 6.0 * (1.0 - q / 20.0 * (1.0 - q / 42.0 * (1.0 - q / 72.0 * (1.0 - q / 110.0)))));
}
float precise_cos(float x) { return precise_sin(x + 1.570796327); }
`;

const MAIN = `
uniform float low, high, sigma, bright, most;
uniform int height;
uniform bool raw;
uniform uvec3 shape;
uniform ivec3 origin, across, down;
out vec4 colour;
void main() {
  ivec2 at = ivec2(int(gl_FragCoord.x), height - 1 - int(gl_FragCoord.y));
  READ
  float s = signal(SIGNAL);
  float value = SIGNED ? s : abs(s);
  float sd = 0.0;
  SD
  if (sigma > 0.0 && !SIGNED) {
    uvec3 v = uvec3(origin + at.x * across + at.y * down);
    vec2 n = normals(v.x + shape.x * (v.y + shape.y * v.z));
    value = length(vec2(s + sigma * n.x, sigma * n.y));
  }
  if (raw) { colour = vec4(value, sd, s, 1.0); return; }
  vec3 grey = vec3(clamp((value - low) / (high - low), 0.0, 1.0));
  float t = bright > 0.0 ? clamp(sd / (bright * most), 0.0, 1.0) : 0.0;
  colour = vec4(mix(grey, mix(vec3(1.0, 0.867, 0.2), vec3(0.85, 0.1, 0.1), t), 0.55 * t), 1.0);
}
`;

class ShaderRenderer {
  constructor(volume) {
    this.canvas = document.createElement("canvas");
    this.gl = this.canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: false });
    if (!this.gl) throw new Error("no WebGL 2");
    this.kind = "WebGL 2";
    this.names = volume.names;
    this.hasSd = volume.hasSd;
    this.shape = volume.shape;
    this.programs = new Map();
    const gl = this.gl;
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 3, -1, -1, 3]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
  }

  fragment(contrast, withSd) {
    const sets = Math.ceil(this.names.length / 4);
    const place = (name) => {
      const i = this.names.indexOf(name);
      return `m${i >> 2}.${"rgba"[i & 3]}`;
    };
    let uniforms = "", read = "";
    for (let i = 0; i < sets; i++) {
      uniforms += `uniform sampler2D maps${i};\n`;
      read += `vec4 m${i} = texelFetch(maps${i}, at, 0);\n  `;
    }
    const options = contrast.row.options.map((name) => `, ${place(name)}`).join("");
    read += MAPS.map((name) => `float ${name} = ${place(name)};`).join(" ");
    const up = Math.exp(STEP).toFixed(9), down = Math.exp(-STEP).toFixed(9);
    const terms = MAPS.map((name, i) => {
      const moved = (by) => MAPS.map((one) => (one === name ? `${one} * ${by}` : one)).join(", ") + options;
      return `(signal(${moved(up)}) - signal(${moved(down)})) / ${(2 * STEP).toFixed(3)} * ${place(SD[i])}`;
    });
    const sd = withSd ? `sd = length(vec3(${terms.join(", ")}));` : "";
    const main = MAIN.replace("READ", read).replace("SD\n", `${sd}\n`).replace("SIGNAL", `pd, t1, t2${options}`);
    return `#version 300 es
precision highp float;
precision highp int;
precision highp sampler2D;
#define SIGNED ${contrast.row.signed}
${uniforms}${PRECISE}${HASH}${contrast.equation.shader}${main}`;
  }

  /* One program with the standard deviation and one without: it takes six more signals. */
  program(contrast, withSd) {
    const key = `${contrast.name} ${withSd}`;
    if (this.programs.has(key)) return this.programs.get(key);
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, this.fragment(contrast, withSd)]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.bindAttribLocation(program, 0, "corner");
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
      const logs = gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader));
      throw new Error(`shader of ${contrast.name}: ${gl.getProgramInfoLog(program)} ${logs.join(" ")}`);
    }
    const places = new Map();
    const found = { program, place: (name) => {
      if (!places.has(name)) places.set(name, gl.getUniformLocation(program, name));
      return places.get(name);
    } };
    this.programs.set(key, found);
    return found;
  }

  upload(slice) {
    const gl = this.gl;
    slice.textures = slice.textures || slice.data.map(() => gl.createTexture());
    slice.data.forEach((data, i) => {
      gl.activeTexture(gl.TEXTURE0 + i);
      gl.bindTexture(gl.TEXTURE_2D, slice.textures[i]);
      if (!slice.fresh) return;
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, slice.width, slice.height, 0, gl.RGBA, gl.FLOAT, data);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    });
    slice.fresh = false;
  }

  run(slice, contrast, look, raw) {
    const gl = this.gl;
    if (gl.isContextLost()) throw new Error("the graphics card was lost");
    const { program, place } = this.program(contrast, this.hasSd && (raw || look.bright > 0));
    gl.useProgram(program);
    this.upload(slice);
    slice.data.forEach((_, i) => gl.uniform1i(place(`maps${i}`), i));
    if (contrast.constants.length) gl.uniform1fv(place("k"), contrast.constants);
    gl.uniform1f(place("low"), look.low);
    gl.uniform1f(place("high"), look.high);
    gl.uniform1f(place("sigma"), look.sigma);
    gl.uniform1f(place("bright"), look.bright);
    gl.uniform1f(place("most"), MOST_SD);
    gl.uniform1i(place("height"), slice.height);
    gl.uniform1i(place("raw"), raw);
    gl.uniform3ui(place("shape"), ...this.shape);
    for (const name of ["origin", "across", "down"]) gl.uniform3i(place(name), ...slice[name]);
    gl.viewport(0, 0, slice.width, slice.height);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  draw(slice, contrast, look) {
    if (this.canvas.width !== slice.width) this.canvas.width = slice.width;
    if (this.canvas.height !== slice.height) this.canvas.height = slice.height;
    this.run(slice, contrast, look, false);
    return this.canvas;
  }

  /* Value, standard deviation and signed signal of each pixel, unscaled; null where the card cannot write floats. */
  values(slice, contrast, look) {
    const gl = this.gl;
    if (!gl.getExtension("EXT_color_buffer_float")) return null;
    const target = gl.createTexture(), frame = gl.createFramebuffer();
    gl.activeTexture(gl.TEXTURE7);
    gl.bindTexture(gl.TEXTURE_2D, target);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA32F, slice.width, slice.height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, target, 0);
    this.run(slice, contrast, look, true);
    const turned = new Float32Array(4 * slice.width * slice.height), values = new Float32Array(turned.length);
    gl.readPixels(0, 0, slice.width, slice.height, gl.RGBA, gl.FLOAT, turned);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.deleteFramebuffer(frame);
    gl.deleteTexture(target);
    const row = 4 * slice.width;
    for (let j = 0; j < slice.height; j++) {
      values.set(turned.subarray(j * row, (j + 1) * row), (slice.height - 1 - j) * row);
    }
    return values;
  }
}
