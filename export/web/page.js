// The page: pictures in, cards out. All text from files goes through textContent; the network is in worker.js.

const KEPT_CARDS = 60;
const TOLERANCE = 0.005; // of an example's probability: that of the export's proof
const element = (id) => document.getElementById(id);
const percent = (probability) => `${(100 * probability).toFixed(2)} %`;
const waiting = new Map(); // id -> what to do with the answer
let asked = 0;
let bundle;

element("unserved").remove();
element("status").textContent = "Loading the network ...";

const worker = new Worker("worker.js", { type: "module" });
worker.onmessage = ({ data }) => {
  if (data.bundle) start(data.bundle);
  else if (data.failed) fail(data.failed);
  else waiting.get(data.id)(data);
};
worker.onerror = (event) => fail(event.message || "this browser is too old: it needs module workers and WebAssembly");

function fail(reason) {
  element("status").textContent = `The network could not be loaded: ${reason}.`;
  element("status").className = "error";
}

function start(loaded) {
  bundle = loaded;
  element("name").textContent = document.title = bundle.run.name;
  element("classes").hidden = element("ask").hidden = false;
  element("classes").firstElementChild.textContent = `${bundle.labels.length} classes`;
  element("classes").lastElementChild.textContent = bundle.labels.join(", ");
  element("overlay").hidden = !bundle.outputs.includes("heatmap");
  element("status").textContent = "";
  showExamples();
}

/** Example pictures are there if the export's list of files has them. */
async function showExamples() {
  const { files } = await (await fetch("FINISHED.json", { cache: "no-cache" })).json();
  if (!files["examples/expected.json"]) return;
  const expected = await (await fetch("examples/expected.json", { cache: "no-cache" })).json();
  for (const [name, truth] of Object.entries(expected)) {
    const button = make("button", { type: "button" });
    button.append(make("img", { src: `examples/${encodeURIComponent(name)}`, alt: `example ${name}`, loading: "lazy" }));
    button.onclick = async () => {
      const blob = await (await fetch(button.firstChild.src)).blob();
      ask(blob, `Example ${name}`, truth);
    };
    const item = make("li");
    item.append(button);
    element("examples").lastElementChild.append(item);
  }
  element("examples").hidden = false;
}

function make(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

/** Answer one picture on a card of its own; `truth`: what the trained model said of an example. */
function ask(blob, name, truth) {
  const card = make("article");
  card.append(make("h2", { textContent: name || "Pasted picture" }), make("p", { textContent: "Looking ..." }));
  element("results").prepend(card);
  while (element("results").children.length > KEPT_CARDS) element("results").lastElementChild.remove();
  const id = asked++;
  waiting.set(id, (said) => {
    waiting.delete(id);
    card.lastElementChild.remove();
    if (said.error) card.append(make("p", { className: "error", textContent: `Not read: ${said.error}` }));
    else card.append(...shown(said, truth));
  });
  worker.postMessage({ id, blob });
}

function shown(said, truth) {
  const text = make("div");
  text.append(make("p", { className: "answer", textContent: said.label ?? "unknown" }));
  if (said.label === null) {
    text.append(make("p", { textContent: `It resembles none of the classes: its distance to the nearest known pictures `
      + `is ${said.score.toFixed(3)}, more than ${bundle.decision.unknown.threshold.toFixed(3)}. Nearest would be:` }));
  }
  text.append(bars(said.top));
  if (said.set) text.append(make("p", { className: "set", textContent: setText(said.set) }));
  text.append(make("p", { className: "note", textContent: `answered in ${said.milliseconds.toFixed(0)} ms` }));
  if (truth) text.append(compared(said.probabilities, truth.probabilities));
  return [picture(said), text];
}

function setText(members) {
  const { coverage, least_probability: least } = bundle.decision.sets;
  const some = `At least ${Number((100 * coverage).toFixed(1))} % of such sets hold the right class: `;
  return some + (least === 0 ? "all classes (too few pictures to say more)" : members.join(", "));
}

function bars(top) {
  const list = make("ol", { className: "bars" });
  for (const [name, probability] of top) {
    const item = make("li");
    const bar = make("i");
    bar.style.width = `${100 * probability}%`;
    item.append(make("span", { textContent: name, dir: "auto" }), make("b", { textContent: percent(probability) }), bar);
    list.append(item);
  }
  return list;
}

function compared(probabilities, expected) {
  const worst = Math.max(...expected.map((p, c) => Math.abs(p - probabilities[c])));
  return make("p", {
    className: worst > TOLERANCE ? "error" : "note",
    textContent: `${worst > TOLERANCE ? "Not as" : "As"} where it was exported: probabilities differ by `
      + `${worst.toFixed(6)} at most (${TOLERANCE} is allowed)`,
  });
}

/** What the network sees, with its heat map over it while the box is ticked. */
function picture({ seen, heatmap, label, top }) {
  const canvas = make("canvas", { width: seen.width, height: seen.height, role: "img" });
  canvas.ariaLabel = `what the network sees of the picture${heatmap ? `; colour: what speaks for ${top[0][0]}` : ""}`;
  const heat = heatmap && coloured(heatmap);
  const draw = () => {
    const context = canvas.getContext("2d");
    context.drawImage(seen, 0, 0);
    if (heat && element("heat").checked) {
      context.imageSmoothingQuality = "high";
      context.drawImage(heat, 0, 0, canvas.width, canvas.height);
    }
  };
  canvas.redraw = draw;
  draw();
  return canvas;
}

function coloured({ width, height, values }) {
  const canvas = make("canvas", { width, height });
  const pixels = new ImageData(width, height);
  values.forEach((value, place) => pixels.data.set([255, 60 + 140 * (1 - value), 0, 170 * value], 4 * place));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

function askAll(files) {
  for (const file of [...files].reverse()) ask(file, file.name); // the first ends up on top
}

element("heat").onchange = () => document.querySelectorAll("canvas").forEach((canvas) => canvas.redraw());
element("files").onchange = ({ target }) => {
  askAll(target.files);
  target.value = ""; // so that the same file can be chosen again
};
document.onpaste = ({ clipboardData }) => bundle && askAll(clipboardData.files);
document.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("over");
};
document.ondragleave = ({ relatedTarget }) => relatedTarget || document.body.classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (bundle) askAll(event.dataTransfer.files);
};
