// Pictures as queries.

import {make} from '/page/tools.js';

// Pixels of a side of a picture that is sent.
const SIDE = 768;

// A picture as JPEG, small enough to send.
export async function shrunk(blob) {
  const image = await createImageBitmap(blob);
  const scale = Math.min(1, SIDE / Math.max(image.width, image.height));
  const canvas = make('canvas', {
    width: Math.max(Math.round(image.width * scale), 1),
    height: Math.max(Math.round(image.height * scale), 1)});
  const context = canvas.getContext('2d');
  // What is see-through is white, as the server takes it.
  context.fillStyle = '#fff';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL('image/jpeg', 0.92);
}

// The content of a picture that is held as an address.
export function bytesOf(address) {
  const content = atob(address.slice(address.indexOf(',') + 1));
  return Uint8Array.from(content, (sign) => sign.charCodeAt(0));
}

// The first picture among some files; undefined if there is none.
export const pictureOf = (list) => [...(list || [])].find((x) =>
  x.type.startsWith('image/'));
