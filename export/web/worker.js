// The network, beside the page so that the page stays awake: {id, blob} in, {id, ...what the network says} out.

import * as ort from "./ort/ort.wasm.min.mjs";
import { answer, drawSeen } from "./answer.js";
import { BadImage, decode } from "./decode.js";

const SHOWN = 384;

ort.env.wasm.numThreads = 1; // more need headers (COOP, COEP) that a plain server does not send
ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
ort.env.logLevel = "error";

/** The content of bundle.json and a session of its model. */
async function load() {
  const bundle = await (await got("bundle.json")).json();
  const model = new Uint8Array(await (await got(bundle.model)).arrayBuffer());
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], enableMemPattern: false });
  return { bundle, session };
}

async function got(name) {
  const response = await fetch(name, { cache: "no-cache" }); // asks whether it has changed: a run is exported again
  if (!response.ok) throw new Error(`${name}: HTTP status ${response.status}`);
  return response;
}

async function say({ bundle, session }, blob) {
  const { width, height, rgb, canvas } = await decode(blob);
  const started = performance.now();
  const outputs = await session.run({ image: new ort.Tensor("uint8", rgb, [1, height, width, 3]) });
  const milliseconds = performance.now() - started;
  const probabilities = outputs.probabilities.data;
  const seen = new OffscreenCanvas(SHOWN, SHOWN);
  drawSeen(seen.getContext("2d"), canvas, bundle.preprocessing, SHOWN);
  const map = outputs.heatmap;
  return {
    ...answer(probabilities, outputs.unknown_score?.data[0] ?? null, bundle.labels, bundle.decision),
    probabilities, milliseconds, seen: seen.transferToImageBitmap(),
    heatmap: map ? { width: map.dims[2], height: map.dims[1], values: map.data } : null,
  };
}

const loading = load();
loading.then(
  ({ bundle }) => postMessage({ bundle }),
  (error) => postMessage({ failed: error.message }));

let last = Promise.resolve(); // one picture at a time: a hundred decoded ones would fill the memory

onmessage = ({ data }) => {
  last = last.then(() => reply(data));
};

async function reply({ id, blob }) {
  try {
    postMessage({ id, ...(await say(await loading, blob)) });
  } catch (error) {
    const reason = error instanceof BadImage ? error.message : `the network could not answer: ${error.message}`;
    postMessage({ id, error: reason });
  }
}
