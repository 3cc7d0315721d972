// The page itself: which frame, which pictures, what is said about them.
const FRAME_STAGES = [
  ["frame", "frame"], ["detections", "detections"], ["tracks", "tracks and crops"], ["result", "result"],
  ["difference", "difference × 4"],
];
const FACE_STAGES = [
  ["crop", "crop"], ["logits", "mask logits"], ["probability", "mask over time"], ["mask", "hole"], ["raw", "raw fill"],
  ["blended", "blended fill"], ["alpha", "alpha"], ["after", "face in the result"],
];
const { about, points } = dump.all;
const frames = dump.all.frames.sort((a, b) => a.index - b.index);
const $ = (id) => document.getElementById(id);
const make = (tag, text, style) => Object.assign(document.createElement(tag), { textContent: text ?? "", className: style ?? "" });
const count = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;
const folderOf = (frame) => `frames/${String(frame.index).padStart(6, "0")}`;
const redosOf = (frame) => dump.all.redos.filter((redo) => redo.index === frame.index);
const number = (value, digits = 2) => value === null || value === undefined ? "–" : value.toFixed(digits);

const state = { at: 0, left: "frame", right: "result", run: 0, face: -1, timer: null };
let plots = null;
const viewer = new Viewer((scale) => { $("scale").textContent = `${Math.round(scale * 100)} %`; });

// A picture's key is its stage, "face0-crop" for one of a face, with "@2" behind it for that of redo 2.
function pathOf(frame, key) {
  const [file, run] = key.split("@");
  if (run) {
    const redo = redosOf(frame).find((other) => String(other.number) === run);
    return redo?.files.includes(`${file}.png`) ? `${redo.place}/${file}.png` : null;
  }
  const face = /^face(\d+)-/.exec(file);
  const there = face
    ? frame.faces.some((other) => other.id === Number(face[1]) && other.files.includes(`${file}.png`))
    : FRAME_STAGES.some(([stage]) => stage === file);
  return there ? `${folderOf(frame)}/${file}.png` : null;
}

function titleOf(key) {
  const [file, run] = key.split("@");
  const face = /^face(\d+)-(.*)$/.exec(file);
  const title = face
    ? `face ${face[1]}: ${FACE_STAGES.find(([stage]) => stage === face[2])?.[1]}`
    : FRAME_STAGES.find(([stage]) => stage === file)?.[1];
  return run ? `redo ${run}: ${title}` : title;
}

function keysOf(frame) {
  const faces = new Set([...frame.faces, ...redosOf(frame).flatMap((redo) => redo.faces)].map((face) => face.id));
  const plain = [
    ...FRAME_STAGES.map(([stage]) => stage),
    ...[...faces].sort((a, b) => a - b).flatMap((id) => FACE_STAGES.map(([stage]) => `face${id}-${stage}`)),
  ];
  const redone = redosOf(frame).flatMap((redo) => plain.map((key) => `${key}@${redo.number}`));
  return [...plain, ...redone].filter((key) => pathOf(frame, key));
}

function select(element, keys, current) {
  element.replaceChildren(...keys.map((key) => new Option(titleOf(key), key, false, key === current)));
}

function show() {
  const frame = frames[state.at];
  const keys = keysOf(frame);
  // What a frame does not have is kept in the state, for the next frame that has it.
  const left = keys.includes(state.left) ? state.left : "frame";
  const right = keys.includes(state.right) ? state.right : "result";
  const both = left.startsWith("face") === right.startsWith("face") ? [left, right] : ["frame", "result"];
  select($("left"), keys, both[0]);
  select($("right"), keys, both[1]);
  $("leftname").textContent = titleOf(both[0]);
  $("rightname").textContent = titleOf(both[1]);
  viewer.show(pathOf(frame, both[0]), pathOf(frame, both[1]));
  $("scrub").value = state.at;
  $("where").textContent = `frame ${frame.index} · ${frame.time.toFixed(3)} s · ${state.at + 1} of ${frames.length}`;
  showRuns(frame);
  showRows(frame, both);
  plots?.show(frame.index);
  history.replaceState(null, "", `#${frame.index}`);
  for (const near of [frames[state.at + 1], frames[state.at - 1]]) {
    if (!near) continue;
    for (const key of both) {
      const path = pathOf(near, key);
      if (path) new Image().src = path;
    }
  }
}

function showRuns(frame) {
  const redos = redosOf(frame);
  if (!redos.some((redo) => redo.number === state.run)) state.run = 0;
  $("runs").hidden = redos.length === 0;
  const options = redos.map((redo) => {
    const given = Object.entries(redo.options).map(([name, value]) => `, ${name} ${String(value).split("/").pop()}`).join("");
    return new Option(`redo ${redo.number} from ${redo.from}${given}`, redo.number, false, redo.number === state.run);
  });
  $("run").replaceChildren(new Option("as dumped", 0, false, state.run === 0), ...options);
  const redo = redos.find((other) => other.number === state.run);
  $("changes").hidden = !redo;
  if (!redo) return;
  const table = make("table");
  for (const [stage, track, unit, most, mean] of redo.changes) {
    const row = table.insertRow();
    row.insertCell().textContent = stage;
    row.insertCell().textContent = track === null ? "whole frame" : `face ${track}`;
    const cell = row.insertCell();
    cell.textContent = most === 0 ? "identical" : `max ${+most.toPrecision(3)}, mean ${+mean.toPrecision(3)} ${unit}`;
    if (most === 0) cell.className = "same";
  }
  const outcome = redo.identical ? "every sample of the result is the same" : "the result differs";
  $("changes").replaceChildren(make("b", `Redo ${redo.number} from ${redo.from}: ${outcome}.`), table,
    ...redo.notes.map((note) => make("div", note, "note")));
}

function tile(frame, key, title, both) {
  const redone = state.run ? `${key}@${state.run}` : null;
  const used = redone && pathOf(frame, redone) ? redone : key;
  const path = pathOf(frame, used);
  if (!path) {
    const figure = make("figure", "", "none");
    figure.append(make("div", "none"), make("figcaption", title));
    return figure;
  }
  const figure = make("figure", "", used === redone ? "new" : "");
  figure.classList.toggle("left", used === both[0]);
  figure.classList.toggle("right", used === both[1]);
  figure.tabIndex = 0;
  const image = Object.assign(new Image(), { src: path, alt: title, loading: "lazy" });
  const caption = make("figcaption", title);
  if (used === redone) caption.append(make("span", `redo ${state.run}`));
  figure.append(image, caption);
  const compare = () => {
    const face = /^(face\d+)-/.exec(key)?.[1];
    const base = used === redone ? key : face ? `${face}-crop` : "frame";
    [state.left, state.right] = used === base ? [base, face ? `${face}-after` : "result"] : [base, used];
    show();
  };
  figure.addEventListener("click", compare);
  figure.addEventListener("keydown", (event) => { if (event.key === "Enter") compare(); });
  return figure;
}

function showRows(frame, both) {
  const rows = $("rows");
  const whole = make("div", "", "row");
  const seen = frame.detections.filter((face) => face.detected).length;
  const followed = frame.detections.length - seen;
  const text = make("p");
  text.append(make("b", `Frame ${frame.index}`), ` ${count(seen, "face")} detected, ${followed} followed, ${count(frame.faces.length, "track")}`
    + `${frame.cut ? ", first of a new shot" : ""} · ${frame.native.format}, ${frame.native.width} × ${frame.native.height}`);
  const tiles = make("div", "", "tiles wide");
  tiles.append(...FRAME_STAGES.map(([stage, title]) => tile(frame, stage, title, both)));
  whole.append(text, tiles);
  const redo = redosOf(frame).find((other) => other.number === state.run);
  const faces = redo?.from === "detect" ? redo.faces : frame.faces;
  const parts = faces.map((face) => {
    const now = redo?.faces.find((other) => other.id === face.id) ?? face;
    const row = make("div", "", "row");
    const line = make("p");
    const swatch = make("i");
    swatch.style.background = colourOf(face.id);
    const decision = now.failed ? "the network gave NaN" : now.opacity === 0 ? "wears no mask" : "";
    line.append(swatch, make("b", `Face ${face.id}`), ` score ${number(now.score)} · lower face covered ${number(now.covered)}`
      + ` · opacity ${number(now.opacity)} · confidence ${number(now.confidence, 3)} · mask ${number(now.area * 100, 1)} %`
      + ` of the crop${"jitter" in now ? ` · jitter ${number(now.jitter)} px (${number(now.raw_jitter)} before smoothing)` : ""}`
      + `${now.reset ? " · reset" : ""} `);
    if (decision) line.append(make("em", decision));
    const pictures = make("div", "", "tiles");
    pictures.append(...FACE_STAGES.map(([stage, title]) => tile(frame, `face${face.id}-${stage}`, title, both)));
    row.append(line, pictures);
    return row;
  });
  if (!parts.length) parts.push(make("p", "No face in this frame.", "hint"));
  const height = rows.offsetHeight;
  rows.style.minHeight = `${height}px`; // so that the page does not jump while pictures load
  rows.replaceChildren(whole, ...parts);
  requestAnimationFrame(() => { rows.style.minHeight = ""; });
}

function go(at) {
  state.at = Math.min(frames.length - 1, Math.max(0, at));
  show();
}

function nearest(index) {
  return frames.reduce((best, frame, at) => Math.abs(frame.index - index) < Math.abs(frames[best].index - index) ? at : best, 0);
}

function play() {
  if (state.timer) {
    clearInterval(state.timer);
    state.timer = null;
  } else {
    if (state.at === frames.length - 1) state.at = -1;
    state.timer = setInterval(() => { state.at < frames.length - 1 ? go(state.at + 1) : play(); }, 200);
  }
  $("play").textContent = state.timer ? "❚❚" : "▶";
}

function swap() {
  [state.left, state.right] = [$("right").value, $("left").value];
  show();
}

// Goes from face to face of the whole frame, at the size of its crop.
function zoomToFace() {
  const frame = frames[state.at];
  if (!frame.faces.length) return;
  if ($("left").value.startsWith("face")) {
    [state.left, state.right] = ["frame", "result"];
    show();
  }
  state.face = (state.face + 1) % frame.faces.length;
  const [[a, b, x], [c, d, y]] = frame.faces[state.face].frame_to_crop;
  const determinant = a * d - b * c;
  const corners = [[0, 0], [255, 0], [0, 255], [255, 255]].map(([u, v]) => [
    (d * (u - x) - b * (v - y)) / determinant, (a * (v - y) - c * (u - x)) / determinant,
  ]);
  const [xs, ys] = [0, 1].map((axis) => corners.map((corner) => corner[axis]));
  const [height, width] = frame.native.display_size;
  if (viewer.size[0] !== width || viewer.size[1] !== height) viewer.size = [width, height];
  viewer.zoomTo([Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)]);
}

const KEYS = {
  ArrowLeft: () => go(state.at - 1), ArrowRight: () => go(state.at + 1), Home: () => go(0), End: () => go(frames.length - 1),
  PageUp: () => go(state.at - 10), PageDown: () => go(state.at + 10), " ": play,
  "+": () => viewer.zoom(1.25), "=": () => viewer.zoom(1.25), "-": () => viewer.zoom(0.8), 0: () => viewer.fit(),
  1: () => viewer.scaleTo(1), s: swap, f: zoomToFace,
};

function describe() {
  const name = about.input.split(/[\\/]/).pop();
  document.title = `${name} – vidunmask dump`;
  $("input").textContent = name;
  $("input").title = about.input;
  const chips = [about.chosen, count(frames.length, "frame"), about.size?.slice().reverse().join(" × "), about.codec,
    `${about.device}, ${about.precision}`, `detector ${about.options.detector}`, ...Object.keys(about.weights),
    about.kind === "video" && !about.options.temporal ? "every frame alone" : null, `version ${about.version}`];
  $("about").append(...chips.filter(Boolean).map((chip) => make("li", chip)));
}

function start() {
  if (!about.options) {
    $("empty").textContent = "data.js is missing or damaged; it has to lie beside this page.";
    $("empty").hidden = false;
    return;
  }
  describe();
  if (!frames.length) {
    $("empty").hidden = false;
    return;
  }
  $("main").hidden = false;
  $("scrub").max = frames.length - 1;
  const marks = frames.map((frame, at) => {
    const mark = make("i", "", redosOf(frame).length ? "redone" : frame.cut ? "cut" : "");
    mark.style.left = `${frames.length > 1 ? 100 * at / (frames.length - 1) : 50}%`;
    return mark;
  });
  $("ticks").append(...marks);
  if (points.length) {
    const chosen = frames.map((frame) => frame.index);
    plots = new Plots($("panels"), $("legend"), $("values"), points, chosen, (index) => go(nearest(index)));
  }
  $("scrub").addEventListener("input", (event) => go(Number(event.target.value)));
  $("left").addEventListener("change", (event) => { state.left = event.target.value; state.right = $("right").value; show(); });
  $("right").addEventListener("change", (event) => { state.right = event.target.value; state.left = $("left").value; show(); });
  $("run").addEventListener("change", (event) => {
    state.run = Number(event.target.value);
    if (state.run) [state.left, state.right] = ["result", `result@${state.run}`];
    show();
  });
  const buttons = {
    play, swap, previous: KEYS.ArrowLeft, next: KEYS.ArrowRight, in: KEYS["+"], out: KEYS["-"], fit: KEYS[0], one: KEYS[1],
    face: zoomToFace,
  };
  for (const [id, action] of Object.entries(buttons)) $(id).addEventListener("click", action);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const action = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
    if (!action || (event.key === " " && event.target.tagName === "BUTTON")) return;
    event.preventDefault();
    action();
  });
  window.addEventListener("hashchange", () => go(nearest(Number(location.hash.slice(1)))));
  go(location.hash.length > 1 ? nearest(Number(location.hash.slice(1))) : 0);
  const redone = redosOf(frames[state.at]);
  if (/redo/.test(location.search) && redone.length) {
    state.run = redone[redone.length - 1].number;
    [state.left, state.right] = ["result", `result@${state.run}`];
    show();
  }
}

start();
