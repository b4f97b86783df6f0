/* The renderer that this browser can do. The address of the page may end in #canvas to ask for the slower one. */

const MOST_SD = 0.2; // of the bright level of the head: where the colour of the uncertainty ends

function makeRenderer(volume) {
  if (!location.hash.includes("canvas")) {
    try {
      return new ShaderRenderer(volume);
    } catch (error) {
      console.warn(error.message);
    }
  }
  return new CanvasRenderer(volume);
}
