/** A node of a few lines for the follower's tests: any tree of blocks, its best tip set by hand, served as `NodeRpc`. */
import { serializeBlock } from '../../../services/core/bitcoin/block.ts';
import { hexFromBytes } from '../../../services/core/bitcoin/bytes.ts';
import { sha256d } from '../../../services/core/bitcoin/hash.ts';
import { blockHash, bytesFromHashHex, hashHex, headerBytes } from '../../../services/core/bitcoin/header.ts';
import { meetsTarget, powHash } from '../../../services/core/bitcoin/pow.ts';
import { targetFromBits, workFromBits } from '../../../services/core/bitcoin/target.ts';
import { serializeTransaction } from '../../../services/core/bitcoin/transaction.ts';
import { PoolError } from '../../../services/core/errors.ts';
import type { NodeRpc } from '../../../services/core/node/rpc.ts';

export interface MemoryBlock {
  readonly hash: string;
  readonly prev: string;
  readonly height: number;
  readonly hex: string;
}

export interface BlockOptions {
  readonly bits?: number;
  readonly timeS?: number;
  readonly outputs?: readonly { readonly script: Uint8Array; readonly valueSats: bigint }[];
}

const OTHER_SCRIPT = Uint8Array.of(0x51);
const EASY_BITS = 0x207fffff;

export class MemoryNode implements NodeRpc {
  readonly name: string;
  readonly blocks = new Map<string, MemoryBlock>();
  tip: MemoryBlock;
  syncing = false;
  /** Thrown by every call, while set. */
  down: PoolError | null = null;
  calls: string[] = [];
  #salt = 0;

  /** Says its work, as Core does. */
  tellsWork = false;

  /** @param name - others start from the same block 0 where it has options of its own */
  constructor(genesis: BlockOptions = {}, name = 'memory') {
    this.name = name;
    this.tip = this.add(null, genesis);
  }

  /** Adds a block on a parent without making it the tip. */
  add(parent: MemoryBlock | null, { bits = EASY_BITS, timeS, outputs }: BlockOptions = {}): MemoryBlock {
    const height = parent === null ? 0 : parent.height + 1;
    const coinbase = serializeTransaction(
      {
        version: 1,
        inputs: [
          {
            prevTxid: new Uint8Array(32),
            prevIndex: 0xffffffff,
            script: Uint8Array.of(3, height & 255, (height >> 8) & 255, this.#salt++ & 255),
            sequence: 0xffffffff,
            witness: [],
          },
        ],
        outputs: outputs ?? [{ script: OTHER_SCRIPT, valueSats: 50_0000_0000n }],
        lockTime: 0,
      },
      { witness: false },
    );
    const parts = {
      version: 0x20000000,
      prevHash: parent === null ? new Uint8Array(32) : bytesFromHashHex(parent.hash),
      merkleRoot: sha256d(coinbase),
      time: timeS ?? 1_700_000_000 + height * 600,
      bits,
      nonce: this.#salt * 1_000_000,
    };
    const target = targetFromBits(bits);
    let header = headerBytes(parts);
    while (!meetsTarget(powHash('sha256d', header), target)) header = headerBytes({ ...parts, nonce: ++parts.nonce });
    const block: MemoryBlock = {
      hash: hashHex(blockHash(header)),
      prev: parent?.hash ?? '00'.repeat(32),
      height,
      hex: hexFromBytes(serializeBlock(header, coinbase, [])),
    };
    this.blocks.set(block.hash, block);
    return block;
  }

  /** A block on a parent that states bits for which nobody worked. */
  forge(parent: MemoryBlock, bits: number): MemoryBlock {
    const header = headerBytes({
      ...{
        version: 0x20000000,
        prevHash: bytesFromHashHex(parent.hash),
        merkleRoot: Buffer.from(parent.hex.slice(72, 136), 'hex'),
      },
      ...{ time: 1_700_000_000 + (parent.height + 1) * 600, bits, nonce: 0 },
    });
    const hex = hexFromBytes(header) + parent.hex.slice(160);
    return { hash: hashHex(blockHash(header)), prev: parent.hash, height: parent.height + 1, hex };
  }

  /** Extends the best chain. */
  mine(count = 1, options: BlockOptions = {}): MemoryBlock {
    for (let i = 0; i < count; i++) this.tip = this.add(this.tip, options);
    return this.tip;
  }

  /** The block of the best chain at a height. */
  at(height: number): MemoryBlock {
    let block = this.tip;
    while (block.height > height) block = this.blocks.get(block.prev)!;
    return block;
  }

  #work(): bigint {
    let work = 0n;
    for (let block: MemoryBlock | undefined = this.tip; block !== undefined; block = this.blocks.get(block.prev)) {
      work += workFromBits(Buffer.from(block.hex.slice(144, 152), 'hex').readUInt32LE());
    }
    return work;
  }

  async call<T>(method: string, params: readonly unknown[] = []): Promise<T> {
    this.calls.push(method);
    if (this.down !== null) throw this.down;
    return this.#answer(method, params) as T;
  }

  #answer(method: string, params: readonly unknown[]): unknown {
    switch (method) {
      case 'getblockchaininfo':
        return {
          ...{ blocks: this.tip.height, bestblockhash: this.tip.hash, initialblockdownload: this.syncing },
          ...(this.tellsWork ? { chainwork: this.#work().toString(16).padStart(64, '0') } : {}),
        };
      case 'getbestblockhash':
        return this.tip.hash;
      case 'getblockhash': {
        const height = params[0] as number;
        if (height > this.tip.height) {
          throw new PoolError('node_refused', 'Block height out of range', {
            facts: { rpcCode: -8, rpcMessage: 'Block height out of range' },
          });
        }
        return this.at(height).hash;
      }
      case 'getblock':
        return this.blocks.get(params[0] as string)!.hex;
      case 'getblockheader':
        return this.blocks.get(params[0] as string)!.hex.slice(0, 160);
      default:
        throw new PoolError('node_refused', `Method not found: ${method}`, { facts: { rpcCode: -32601 } });
    }
  }

  close(): void {}
}
