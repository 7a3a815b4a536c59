// A file -> RGB, as zoo/preprocess.py decodes it: upright by EXIF, on white, colours as stored, limits before decoding.
// Chromium gives the same pixels as Pillow, bit for bit (JPEG, PNG with alpha, WebP, BMP, GIF); what differs: 16 bit
// grey by 1 level, and WebP is not turned by its EXIF. TIFF and HEIF are not decoded by every browser.

const MAX_BYTES = 50_000_000;
const MAX_PIXELS = 50_000_000;
const MAX_ASPECT = 20;
const EXPECTED = "expected a JPEG, PNG, WebP, BMP or GIF picture";

/** A picture that is refused; `message` is one clause. */
export class BadImage extends Error {}

/** Blob -> {width, height, rgb: Uint8Array, canvas: OffscreenCanvas}. Throws BadImage. */
export async function decode(blob) {
  if (blob.size > MAX_BYTES) throw new BadImage(`larger than ${MAX_BYTES / 1e6} MB`);
  checkSize(headerSize(new DataView(await blob.arrayBuffer())));
  const bitmap = await bitmapOf(blob);
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new BadImage("not enough memory to decode it");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < rgb.length; from += 4) {
    rgb[to++] = data[from];
    rgb[to++] = data[from + 1];
    rgb[to++] = data[from + 2];
  }
  return { width, height, rgb, canvas };
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

function checkSize([width, height]) {
  if (width * height > MAX_PIXELS) {
    throw new BadImage(`too large: ${width} x ${height}, at most ${MAX_PIXELS / 1e6} million pixels are decoded`);
  }
  if (!(width && height)) throw new BadImage("damaged: its header cannot be read");
  if (Math.max(width, height) > MAX_ASPECT * Math.min(width, height)) {
    throw new BadImage(`too elongated: ${width} x ${height}, at most ${MAX_ASPECT}:1 is accepted`);
  }
}

/** [width, height] as stored, told by content: no pixel is decoded for it. */
function headerSize(bytes) {
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
    return read();
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
