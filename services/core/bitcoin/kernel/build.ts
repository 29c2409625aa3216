/** Writes share-kernel.wasm from its source, share-code.ts: `npm run kernel`. A test holds that the file is what the source gives. */
import { writeFileSync } from 'node:fs';
import { shareKernelBytes } from './share-code.ts';

const bytes = shareKernelBytes();
writeFileSync(new URL('./share-kernel.wasm', import.meta.url), bytes);
console.log(`share-kernel.wasm: ${bytes.length} bytes`);
