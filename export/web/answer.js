// From the network's outputs to an answer, and which part of a picture the network sees: zoo/contract/decision.py (answer) and
// zoo/picture/preprocess.py (resize_crop) over again. tests/export/test_web.py compares them.

/** What is said about one picture: {label (null: unknown), top: [[name, probability]], score, set (null: none)}. */
export function answer(probabilities, unknownScore, labels, decision, top = 5) {
  const order = Array.from(probabilities.keys());
  order.sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  const known = !decision.unknown || unknownScore <= decision.unknown.threshold;
  const least = decision.sets && Math.fround(decision.sets.least_probability);
  const members = decision.sets && order.filter((c, place) => place === 0 || probabilities[c] >= least);
  return {
    label: known ? labels[order[0]] : null,
    top: order.slice(0, top).map((c) => [labels[c], probabilities[c]]),
    score: decision.unknown ? unknownScore : null,
    set: members && members.map((c) => labels[c]),
  };
}

/** Where a picture lies in the network's square, in pixels of it: {left, top, width, height}; what is outside is cut. */
export function placed(width, height, pre) {
  const side = pre.input_size[1];
  const target = Math.floor(side / pre.crop_pct);
  let size;
  if (pre.crop_mode === "squash") {
    size = [target, target];
  } else if (pre.crop_mode === "border") {
    const ratio = Math.max(width / target, height / target);
    size = [width, height].map((length) => Math.max(1, halfToEven(length / ratio)));
  } else {
    const long = Math.trunc((target * Math.max(width, height)) / Math.min(width, height));
    size = width <= height ? [target, long] : [long, target];
  }
  const [left, top] = size.map((length) =>
    length < side ? Math.floor((side - length) / 2) : -halfToEven((length - side) / 2));
  return { left, top, width: size[0], height: size[1] };
}

function halfToEven(number) {
  const below = Math.floor(number);
  return number - below === 0.5 ? below + (below % 2) : Math.round(number);
}

/** The square that the network sees, drawn by the browser at `shown` pixels a side. */
export function drawSeen(context, picture, pre, shown) {
  const zoom = shown / pre.input_size[1];
  const { left, top, width, height } = placed(picture.width, picture.height, pre);
  const border = pre.crop_mode === "border" ? pre.mean.map((value) => Math.round(255 * value)) : [0, 0, 0];
  context.fillStyle = `rgb(${border.join(" ")})`;
  context.fillRect(0, 0, shown, shown);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, left * zoom, top * zoom, width * zoom, height * zoom);
}
