// Sends a file by the generated client, and writes what comes back: node caller.js URL FILE TARGET
import { readFile, writeFile } from 'node:fs/promises';
import { createClient } from './generated/client/index.js';
import { derain, derainBatch } from './generated/sdk.gen.js';
import type { DerainResponse, Problem } from './generated/types.gen.js';

// The answer is bytes, and nothing else: does not compile where it is `unknown` or a string.
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const isBlob: Same<DerainResponse, Blob | File> = true;

const [url, file, target] = process.argv.slice(2);
if (!isBlob || !url || !file || !target) throw new Error('three arguments');
const client = createClient({ baseUrl: url });
const body = new Blob([await readFile(file)]);

const { data: clean } = await derain({ client, body, throwOnError: true });
await writeFile(target, Buffer.from(await clean.arrayBuffer()));

const { data: zip } = await derainBatch({ client, body: { images: [body], strength: 0 }, throwOnError: true });
if (!(await zip.text()).startsWith('PK')) throw new Error('no zip');

const refused = await derain({ client, body: new Blob(['rain']) });
const problem: Problem | undefined = refused.error;
if (problem?.type !== '/errors#unsupported-image') throw new Error(`another error: ${JSON.stringify(problem)}`);
