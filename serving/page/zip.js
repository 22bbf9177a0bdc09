// A zip of files that are stored as they are: photos do not become smaller by compressing them again.

const MOST_BYTES = 0xffff_ffff; // beyond, a zip is of another kind, which not every program opens
const UTF_8 = 1 << 11; // how the names are written

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb8_8320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function crc32(data) {
  let value = ~0;
  for (const byte of data) value = TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  return ~value >>> 0;
}

/** The numbers, each [value, bytes it takes], little end first. */
function numbers(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [, size]) => sum + size, 0)));
  let at = 0;
  for (const [value, size] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return view;
}

/** Local time as MS-DOS had it: [time, date]. */
function dosTime(date) {
  const year = Math.min(Math.max(date.getFullYear(), 1980), 2107);
  return [
    (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1),
    ((year - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate(),
  ];
}

/** Of [{ name, blob }]. Throws RangeError where it would be larger than a zip can be. */
export async function zip(files, now = new Date()) {
  const pieces = [];
  const directory = [];
  const [time, date] = dosTime(now);
  let at = 0;
  let directoryBytes = 0;
  for (const { name, blob } of files) {
    const written = new TextEncoder().encode(name);
    const described = [
      [20, 2], [UTF_8, 2], [0, 2], [time, 2], [date, 2],
      [crc32(new Uint8Array(await blob.arrayBuffer())), 4], [blob.size, 4], [blob.size, 4], [written.length, 2], [0, 2],
    ];
    const entry = numbers([0x0201_4b50, 4], [20, 2], ...described, [0, 2], [0, 2], [0, 2], [0, 4], [at, 4]);
    const head = numbers([0x0403_4b50, 4], ...described);
    pieces.push(head, written, blob);
    directory.push(entry, written);
    at += head.byteLength + written.length + blob.size;
    directoryBytes += entry.byteLength + written.length;
    if (at + directoryBytes > MOST_BYTES) throw new RangeError('together the photos are larger than 4 GB, which is more than a zip can hold.');
  }
  const count = directory.length / 2;
  const end = numbers([0x0605_4b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [directoryBytes, 4], [at, 4], [0, 2]);
  return new Blob([...pieces, ...directory, end], { type: 'application/zip' });
}
