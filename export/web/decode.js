// A file -> RGB, as zoo/picture/decoding.py decodes it: upright by EXIF, on white, colours as stored, limits before decoding.
// Chromium gives the same pixels as Pillow, bit for bit (JPEG, PNG with alpha, WebP, BMP, GIF); what differs: 16 bit
// grey by 1 level, WebP is not turned by its EXIF, and a JPEG of more than 25 million pixels, which Pillow decodes at a
// part of its size, is averaged to that size here: single pixels differ, and noise resized to 224 pixels by 1 level.
// TIFF and HEIF are not decoded by every browser.

const MAX_BYTES = 50_000_000;
const MAX_PIXELS = 50_000_000;
const MAX_ASPECT = 20;
const FULL_PIXELS = 25_000_000; // these four as in zoo/picture/jpeg_file.py
const MAX_JPEG_PIXELS = 200_000_000;
const LEAST_SIDE = 1024;
const MOST_IN_FULL = 50_000_000;
const STRIP_ROWS = 64; // of the result: what is averaged at a time
const EXPECTED = "expected a JPEG, PNG, WebP, BMP or GIF picture";

/** A picture that is refused; `message` is one clause. */
export class BadImage extends Error {}

/**
 * Blob -> {width, height, rgb: Uint8Array, canvas: OffscreenCanvas}. Throws BadImage.
 * A JPEG of more than `fullPixels` is averaged to a part of its size.
 */
export async function decode(blob, fullPixels = FULL_PIXELS) {
  if (blob.size > MAX_BYTES) throw new BadImage(`larger than ${MAX_BYTES / 1e6} MB`);
  const { size, isJpeg } = header(new DataView(await blob.arrayBuffer()));
  const part = isJpeg ? scale(...size, fullPixels) : 1;
  checkSize(size, part);
  const bitmap = await bitmapOf(blob);
  const drawn = part > 1 ? averaged(bitmap, part) : whole(bitmap);
  bitmap.close();
  return drawn;
}

function whole(bitmap) {
  const { width, height } = bitmap;
  const { canvas, context } = onWhite(width, height);
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < rgb.length; from += 4) {
    rgb[to++] = data[from];
    rgb[to++] = data[from + 1];
    rgb[to++] = data[from + 2];
  }
  return { width, height, rgb, canvas };
}

/** At one `part`-th of the size, each pixel the mean of those that it stands for; drawn strip by strip. */
function averaged(bitmap, part) {
  const [width, height] = [Math.ceil(bitmap.width / part), Math.ceil(bitmap.height / part)];
  const rgb = new Uint8Array(width * height * 3);
  const { canvas, context } = onWhite(width, height);
  const strip = onWhite(bitmap.width, part * STRIP_ROWS);
  for (let top = 0; top < height; top += STRIP_ROWS) {
    const rows = Math.min(STRIP_ROWS, height - top);
    const storedRows = Math.min(part * rows, bitmap.height - part * top);
    strip.context.drawImage(bitmap, 0, -part * top);
    const stored = strip.context.getImageData(0, 0, bitmap.width, storedRows).data;
    const means = new ImageData(width, rows);
    for (let y = 0; y < rows; y += 1) {
      averageRow(stored, bitmap.width, part * y, Math.min(part, storedRows - part * y), part,
        means.data.subarray(4 * width * y, 4 * width * (y + 1)));
    }
    context.putImageData(means, 0, top);
    for (let from = 0, to = 3 * width * top; from < means.data.length; from += 4) {
      rgb[to++] = means.data[from];
      rgb[to++] = means.data[from + 1];
      rgb[to++] = means.data[from + 2];
    }
  }
  return { width, height, rgb, canvas };
}

/** Fills one row of means, RGBA; `rows` of the stored ones from `top` on, each of `length` pixels. */
function averageRow(stored, length, top, rows, part, means) {
  for (let to = 0, left = 0; to < means.length; to += 4, left += part) {
    const right = Math.min(left + part, length);
    const count = rows * (right - left);
    let red = 0;
    let green = 0;
    let blue = 0;
    for (let y = top; y < top + rows; y += 1) {
      const end = 4 * (y * length + right);
      for (let at = 4 * (y * length + left); at < end; at += 4) {
        red += stored[at];
        green += stored[at + 1];
        blue += stored[at + 2];
      }
    }
    means[to] = red / count;
    means[to + 1] = green / count;
    means[to + 2] = blue / count;
    means[to + 3] = 255;
  }
}

function onWhite(width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new BadImage("not enough memory to decode it");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  return { canvas, context };
}

/** 1, 2, 4 or 8: the part of its size at which a JPEG is decoded, by zoo/picture/jpeg_file.py's rule. */
export function scale(width, height, fullPixels = FULL_PIXELS) {
  if (width * height <= fullPixels) return 1;
  for (const part of [2, 4, 8]) {
    const sides = [Math.ceil(width / part), Math.ceil(height / part)];
    if (sides[0] * sides[1] > fullPixels) continue;
    const long = Math.min(...sides) < LEAST_SIDE;
    return long && width * height <= MOST_IN_FULL ? 1 : part;
  }
  return 1;
}

async function bitmapOf(blob) {
  try {
    return await createImageBitmap(blob, {
      premultiplyAlpha: "none", colorSpaceConversion: "none", imageOrientation: "from-image",
    });
  } catch (error) {
    throw new BadImage(`damaged, or too large for this browser (${error.message})`);
  }
}

function checkSize([width, height], part) {
  const most = part > 1 ? MAX_JPEG_PIXELS : MAX_PIXELS;
  if (width * height > most) {
    throw new BadImage(`too large: ${width} x ${height}, at most ${most / 1e6} million pixels are decoded`
      + `${part > 1 ? " of a JPEG" : ""}; make it smaller`);
  }
  if (!(width && height)) throw new BadImage("damaged: its header cannot be read");
  if (Math.max(width, height) > MAX_ASPECT * Math.min(width, height)) {
    throw new BadImage(`too elongated: ${width} x ${height}, at most ${MAX_ASPECT}:1 is accepted`);
  }
}

/** {size: [width, height] as stored, isJpeg}, told by content: no pixel is decoded for it. */
function header(bytes) {
  if (!bytes.byteLength) throw new BadImage("the file is empty");
  const starts = (text, at = 0) =>
    [...text].every((letter, i) => at + i < bytes.byteLength && bytes.getUint8(at + i) === letter.charCodeAt(0));
  const read = [
    [starts("\x89PNG"), () => [bytes.getUint32(16), bytes.getUint32(20)]],
    [starts("\xff\xd8\xff"), () => jpegSize(bytes)],
    [starts("GIF8"), () => [bytes.getUint16(6, true), bytes.getUint16(8, true)]],
    [starts("BM"), () => [bytes.getInt32(18, true), Math.abs(bytes.getInt32(22, true))]],
    [starts("RIFF") && starts("WEBP", 8), () => webpSize(bytes, starts)],
  ].find(([matches]) => matches)?.[1];
  if (!read) throw new BadImage(`of no format that is decoded here; ${EXPECTED}`);
  try {
    return { size: read(), isJpeg: starts("\xff\xd8\xff") };
  } catch (error) {
    if (error instanceof RangeError) throw new BadImage("damaged: its header cannot be read");
    throw error;
  }
}

/** From the first frame header; segments before it are skipped by their lengths. */
function jpegSize(bytes) {
  for (let at = 2; ; at += 2 + bytes.getUint16(at + 2)) {
    while (bytes.getUint8(at + 1) === 0xff) at += 1; // filling
    const marker = bytes.getUint8(at + 1);
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return [bytes.getUint16(at + 7), bytes.getUint16(at + 5)];
    }
    if (marker === 0xda) return [0, 0]; // pixels without a frame
  }
}

function webpSize(bytes, starts) {
  const bits24 = (at) => 1 + bytes.getUint16(at, true) + (bytes.getUint8(at + 2) << 16);
  if (starts("VP8X", 12)) return [bits24(24), bits24(27)];
  if (starts("VP8L", 12)) {
    const bits = bytes.getUint32(21, true);
    return [1 + (bits & 0x3fff), 1 + ((bits >> 14) & 0x3fff)];
  }
  return [bytes.getUint16(26, true) & 0x3fff, bytes.getUint16(28, true) & 0x3fff];
}
