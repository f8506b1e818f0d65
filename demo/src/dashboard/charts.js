// Sparklines, as SVG. The newest sample is at the right edge.

const SVG = "http://www.w3.org/2000/svg";
export const SAMPLES = 120;
const HEIGHT = 40;

function node(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function frame(label, classes) {
  return node("svg", {
    viewBox: `0 0 ${SAMPLES - 1} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label,
    class: `spark ${classes}`,
  });
}

// The last samples, with a place for each: the chart fills from the right.
const places = (history) => history.map((sample, i) => [SAMPLES - history.length + i, sample]);

// Areas on top of each other, one for each key.
export class Stack {
  constructor(label, keys) {
    this.svg = frame(label, "stack");
    this.paths = keys.map((key) => [key, node("path", { class: `fill ${key}` })]);
    this.svg.append(...this.paths.map(([, path]) => path));
  }

  draw(history, label) {
    const sums = history.map(() => 0);
    const all = history.map((sample) => this.paths.reduce((sum, [key]) => sum + sample[key], 0));
    const scale = HEIGHT / Math.max(1, ...all) * 0.96;
    for (const [key, path] of this.paths) {
      const under = places(sums.slice());
      history.forEach((sample, i) => { sums[i] += sample[key]; });
      const over = places(sums);
      const point = ([x, y]) => `${x} ${(HEIGHT - y * scale).toFixed(2)}`;
      path.setAttribute("d", over.length < 2 ? "" : `M${over.map(point).join("L")}L${under.reverse().map(point).join("L")}Z`);
    }
    this.svg.setAttribute("aria-label", label);
  }
}

// Lines over one scale. A sample without a value is a gap.
export class Lines {
  constructor(label, keys) {
    this.svg = frame(label, "lines");
    this.paths = keys.map((key) => [key, node("path", { class: `line ${key}` })]);
    this.svg.append(...this.paths.map(([, path]) => path));
  }

  draw(history, label) {
    const values = history.flatMap((sample) => this.paths.map(([key]) => sample[key] ?? 0));
    const scale = HEIGHT / Math.max(1e-9, ...values) * 0.9;
    for (const [key, path] of this.paths) {
      let pen = "M";
      let d = "";
      for (const [x, sample] of places(history)) {
        const value = sample[key];
        if (value === null || value === undefined) { pen = "M"; continue; }
        d += `${pen}${x} ${(HEIGHT - 1 - value * scale).toFixed(2)}`;
        pen = "L";
      }
      path.setAttribute("d", d);
    }
    this.svg.setAttribute("aria-label", label);
  }
}
