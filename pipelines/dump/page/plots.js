// Lines of score, area, jitter and confidence over time, one colour a track; the same colours as in the pictures.
const COLOURS = ["#ffb03b", "#56c4ff", "#7ed957", "#ff6e82", "#be8cff", "#ffe65a", "#46dcc8"];
const colourOf = (track) => COLOURS[track % COLOURS.length];

// Where a value stands in a point: [index, seconds, [[id, score, covered, area, jitter, raw jitter, confidence, opacity], ...]].
const PANELS = [
  { title: "score", solid: 1, unit: "of the face", range: [0, 1] },
  { title: "area", solid: 3, thin: 2, unit: "mask, of the crop · thin: of the lower face", range: [0, 1] },
  { title: "jitter", solid: 4, thin: 5, unit: "crop pixels · thin: before smoothing", range: [0, null] },
  { title: "confidence", solid: 6, thin: 7, unit: "of the segmentation · thin: opacity", range: [0, 1] },
];

class Plots {
  constructor(parent, legend, values, points, chosen, pick) {
    this.points = points;
    this.values = values;
    this.pick = pick;
    this.hidden = new Set();
    this.chosen = chosen; // indices of the dumped frames
    this.current = null;
    this.hover = null;
    this.tracks = [...new Set(points.flatMap((point) => point[2].map((face) => face[0])))].sort((a, b) => a - b);
    const many = this.tracks.length > 1;
    for (const track of this.tracks) {
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
      box.addEventListener("change", () => {
        this.hidden[box.checked ? "delete" : "add"](track);
        this.draw();
      });
      const line = document.createElement("i");
      line.style.background = colourOf(track);
      label.append(...(many ? [box] : []), line, `face ${track}`);
      legend.append(label);
    }
    this.canvases = PANELS.map((panel) => {
      const canvas = document.createElement("canvas");
      canvas.setAttribute("aria-label", `${panel.title}, ${panel.unit}`);
      canvas.addEventListener("mousemove", (event) => this.look(event));
      canvas.addEventListener("mouseleave", () => { this.hover = null; this.draw(); });
      canvas.addEventListener("click", (event) => this.pick(this.at(event)[0]));
      parent.append(canvas);
      return canvas;
    });
    new ResizeObserver(() => requestAnimationFrame(() => this.draw())).observe(parent);
  }

  get span() {
    const first = this.points[0][0], last = this.points[this.points.length - 1][0];
    return [first, Math.max(last, first + 1)];
  }

  x(index, width) {
    const [first, last] = this.span;
    return 34 + (width - 42) * (index - first) / (last - first);
  }

  at(event) {
    const box = event.currentTarget.getBoundingClientRect();
    const [first, last] = this.span;
    const index = first + (last - first) * (event.clientX - box.left - 34) / (box.width - 42);
    return this.points.reduce((best, point) => Math.abs(point[0] - index) < Math.abs(best[0] - index) ? point : best);
  }

  look(event) {
    this.hover = this.at(event);
    this.draw();
  }

  show(index) {
    this.current = index;
    this.draw();
  }

  draw() {
    if (!this.points.length) return;
    const shown = this.hover ?? this.points.find((point) => point[0] === this.current);
    const faces = (shown?.[2] ?? []).filter((face) => !this.hidden.has(face[0]));
    this.values.textContent = shown ? `frame ${shown[0]} · ${shown[1].toFixed(2)} s` : "";
    PANELS.forEach((panel, number) => this.panel(this.canvases[number], panel, faces));
  }

  panel(canvas, panel, faces) {
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const g = canvas.getContext("2d");
    g.scale(ratio, ratio);
    const top = 22, bottom = height - 12;
    let [low, high] = panel.range;
    if (high === null) {
      const all = this.points.flatMap((p) => p[2].flatMap((face) => [face[panel.solid] ?? 0, face[panel.thin] ?? 0]));
      high = Math.max(1, ...[all.sort((a, b) => a - b)[Math.floor(all.length * 0.99)] ?? 1]) * 1.15;
    }
    const y = (value) => bottom - (bottom - top) * Math.min(1, (value - low) / (high - low));
    g.font = "12px system-ui, sans-serif";
    g.fillStyle = "#e4e7ec";
    g.fillText(panel.title, 34, 14);
    const name = g.measureText(panel.title).width;
    g.fillStyle = "#8f98a8";
    g.font = "11px system-ui, sans-serif";
    const values = faces.map((face) => [face[0], face[panel.solid]]).filter((pair) => pair[1] !== null && pair[1] !== undefined);
    g.fillText(panel.unit, 42 + name, 14);
    let right = width - 8;
    for (const [track, value] of values.slice(0, 4).reverse()) {
      const text = value.toFixed(high > 2 ? 2 : 3);
      right -= g.measureText(text).width;
      if (right < 50 + name + g.measureText(panel.unit).width) break;
      g.fillStyle = colourOf(track);
      g.fillText(text, right, 14);
      right -= 10;
    }
    g.strokeStyle = "#2a2f39";
    g.fillStyle = "#8f98a8";
    g.textAlign = "right";
    for (const value of [low, (low + high) / 2, high]) {
      g.beginPath();
      g.moveTo(34, Math.round(y(value)) + 0.5);
      g.lineTo(width - 8, Math.round(y(value)) + 0.5);
      g.stroke();
      g.fillText(high > 2 ? value.toFixed(1) : String(Math.round(value * 100) / 100), 29, y(value) + 4);
    }
    g.textAlign = "left";
    g.fillStyle = "#4b5363";
    for (const index of this.chosen) g.fillRect(this.x(index, width), bottom + 3, 1, 5);
    for (const track of this.tracks.filter((number) => !this.hidden.has(number))) {
      if (panel.thin) this.line(g, track, panel.thin, width, y, 0.45, 1);
      this.line(g, track, panel.solid, width, y, 1, 1.7);
    }
    for (const [index, colour] of [[this.current, "#ffffff"], [this.hover?.[0], "#8f98a8"]]) {
      if (index === null || index === undefined) continue;
      g.fillStyle = colour;
      g.fillRect(Math.round(this.x(index, width)), top, 1, bottom - top + 8);
    }
  }

  line(g, track, column, width, y, alpha, thick) {
    g.strokeStyle = colourOf(track);
    g.globalAlpha = alpha;
    g.lineWidth = thick;
    g.beginPath();
    let before = null; // a line is broken where the track was away
    for (const [index, , faces] of this.points) {
      const value = faces.find((face) => face[0] === track)?.[column];
      if (value === null || value === undefined) { before = null; continue; }
      const at = [this.x(index, width), y(value)];
      if (before === null) {
        g.moveTo(at[0] - 0.5, at[1]); // a single frame is a dot
        g.lineTo(at[0] + 0.5, at[1]);
      } else g.lineTo(...at);
      before = index;
    }
    g.stroke();
    g.globalAlpha = 1;
    g.lineWidth = 1;
  }
}
