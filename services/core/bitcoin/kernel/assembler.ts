/**
 * As much of a WebAssembly assembler as the share kernel needs: functions over i32, i64, f64 and v128, one exported memory, one data
 * segment. build.ts writes with it what sha256-code.ts and share-code.ts describe; nothing of it runs in the daemon.
 *
 * @see WebAssembly Core Specification 2.0, chapter 5 (binary format)
 */

export const I32 = 0x7f;
const I64 = 0x7e;
const F64 = 0x7c;
export const V128 = 0x7b;
export type ValueType = typeof I32 | typeof I64 | typeof F64 | typeof V128;

/** Opcodes with no immediate, or with one that `Code` writes. */
const OP = {
  i32_eqz: [0x45],
  i32_ne: [0x47],
  i32_lt_u: [0x49],
  i64_ne: [0x52],
  i64_lt_u: [0x54],
  i32_add: [0x6a],
  i32_and: [0x71],
  i32_or: [0x72],
  i32_xor: [0x73],
  i32_shl: [0x74],
  i32_rotr: [0x78],
  f64_add: [0xa0],
  f64_mul: [0xa2],
  f64_convert_i64_u: [0xba],
  select: [0x1b],
  v128_and: [0xfd, 0x4e],
  v128_xor: [0xfd, 0x51],
  i8x16_swizzle: [0xfd, 0x0e],
  i8x16_shr_u: [0xfd, 0x6d],
  i64x2_shr_u: [0xfd, 0xcd, 0x01],
  i32x4_shl: [0xfd, 0xab, 0x01],
  i32x4_shr_u: [0xfd, 0xad, 0x01],
  i32x4_add: [0xfd, 0xae, 0x01],
} as const;
export type Op = keyof typeof OP;

/** Loads and stores: opcode and the natural alignment as a power of two. */
const MEMORY_OP = {
  i32_load: [[0x28], 2],
  i64_load: [[0x29], 3],
  i32_store: [[0x36], 2],
  f64_store: [[0x39], 3],
  v128_load: [[0xfd, 0x00], 4],
  v128_load32_splat: [[0xfd, 0x09], 2],
  v128_store: [[0xfd, 0x0b], 4],
} as const;
export type MemoryOp = keyof typeof MEMORY_OP;

function unsigned(value: number): number[] {
  const out: number[] = [];
  let rest = value >>> 0;
  do {
    const more = rest > 0x7f;
    out.push((rest & 0x7f) | (more ? 0x80 : 0));
    rest >>>= 7;
  } while (rest !== 0);
  return out;
}

function signed(value: number): number[] {
  const out: number[] = [];
  let rest = value | 0;
  for (;;) {
    const byte = rest & 0x7f;
    rest >>= 7;
    if ((rest === 0 && (byte & 0x40) === 0) || (rest === -1 && (byte & 0x40) !== 0)) {
      out.push(byte);
      return out;
    }
    out.push(byte | 0x80);
  }
}

function sized(bytes: readonly number[]): number[] {
  return [...unsigned(bytes.length), ...bytes];
}

function counted(parts: readonly (readonly number[])[]): number[] {
  return [...unsigned(parts.length), ...parts.flat()];
}

/** The body of a function being written. Parameters are the first locals. */
export class Code {
  readonly params: readonly ValueType[];
  readonly results: readonly ValueType[];
  readonly bytes: number[] = [];
  readonly #locals: ValueType[] = [];

  constructor(params: readonly ValueType[], results: readonly ValueType[]) {
    this.params = params;
    this.results = results;
  }

  /** A new local; gives its index. */
  local(type: ValueType): number {
    this.#locals.push(type);
    return this.params.length + this.#locals.length - 1;
  }

  op(name: Op): this {
    this.bytes.push(...OP[name]);
    return this;
  }

  get(local: number): this {
    this.bytes.push(0x20, ...unsigned(local));
    return this;
  }

  set(local: number): this {
    this.bytes.push(0x21, ...unsigned(local));
    return this;
  }

  tee(local: number): this {
    this.bytes.push(0x22, ...unsigned(local));
    return this;
  }

  /** A 32-bit constant, signed or unsigned. */
  i32(value: number): this {
    this.bytes.push(0x41, ...signed(value));
    return this;
  }

  f64(value: number): this {
    this.bytes.push(0x44, ...new Uint8Array(new Float64Array([value]).buffer));
    return this;
  }

  /** 16 byte lanes. */
  v128(lanes: readonly number[]): this {
    this.bytes.push(0xfd, 0x0c, ...lanes);
    return this;
  }

  /** `i8x16.shuffle` with 16 indices of 0 … 31. */
  shuffle(lanes: readonly number[]): this {
    this.bytes.push(0xfd, 0x0d, ...lanes);
    return this;
  }

  memory(name: MemoryOp, offset: number): this {
    const [opcode, align] = MEMORY_OP[name];
    this.bytes.push(...opcode, ...unsigned(align), ...unsigned(offset));
    return this;
  }

  call(index: number): this {
    this.bytes.push(0x10, ...unsigned(index));
    return this;
  }

  /** A loop whose body ends with the condition to go round again on the stack. */
  loopWhile(body: () => void): this {
    this.bytes.push(0x03, 0x40);
    body();
    this.bytes.push(0x0d, 0x00, 0x0b);
    return this;
  }

  /** Takes a condition from the stack. */
  if(body: () => void, otherwise?: () => void): this {
    this.bytes.push(0x04, 0x40);
    body();
    if (otherwise !== undefined) {
      this.bytes.push(0x05);
      otherwise();
    }
    this.bytes.push(0x0b);
    return this;
  }

  /** The function as it stands in the code section. */
  body(): number[] {
    const runs: [number, ValueType][] = [];
    for (const type of this.#locals) {
      const last = runs.at(-1);
      if (last !== undefined && last[1] === type) last[0] += 1;
      else runs.push([1, type]);
    }
    return sized([...counted(runs.map(([count, type]) => [...unsigned(count), type])), ...this.bytes, 0x0b]);
  }
}

/** A module being written: functions in the order of their index. */
export class ModuleWriter {
  readonly #functions: Code[] = [];
  readonly #exports: number[][] = [];

  /** Adds a function; gives its index. It may be written after it was added. */
  add(code: Code, exportName?: string): number {
    this.#functions.push(code);
    const index = this.#functions.length - 1;
    if (exportName !== undefined) {
      this.#exports.push([...sized([...new TextEncoder().encode(exportName)]), 0x00, ...unsigned(index)]);
    }
    return index;
  }

  /**
   * The module's bytes.
   *
   * @param memory.pages - of 64 KiB, at the start and at most; exported as `memory`
   * @param data - copied to address 0
   */
  finish(memory: { readonly pages: number; readonly mostPages: number }, data: Uint8Array): Uint8Array {
    const types: string[] = [];
    const typeOf = (code: Code): number => {
      const text = JSON.stringify([code.params, code.results]);
      if (!types.includes(text)) types.push(text);
      return types.indexOf(text);
    };
    const functionTypes = this.#functions.map((code) => unsigned(typeOf(code)));
    const typeSection = types.map((text) => {
      const [params, results] = JSON.parse(text) as [number[], number[]];
      return [0x60, ...sized(params), ...sized(results)];
    });
    const memoryExport = [...sized([...new TextEncoder().encode('memory')]), 0x02, 0x00];
    const section = (id: number, content: readonly number[]): number[] => [id, ...sized(content)];
    return new Uint8Array([
      ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
      ...section(1, counted(typeSection)),
      ...section(3, counted(functionTypes)),
      ...section(5, [0x01, 0x01, ...unsigned(memory.pages), ...unsigned(memory.mostPages)]),
      ...section(7, counted([memoryExport, ...this.#exports])),
      ...section(10, counted(this.#functions.map((code) => code.body()))),
      ...section(11, [0x01, 0x00, 0x41, 0x00, 0x0b, ...sized([...data])]),
    ]);
  }
}
