/**
 * Proxy mode: upstream pools' jobs become ours, our miners' shares go up.
 *
 *   upstream.ts → `Link` (a source of work: its own extranonce space and job numbers) → daemon → miners
 *   judged share that meets the upstream's difficulty → upstream at once; its verdict → an event of its own
 *
 * The first upstream of the configuration that works is used. Each connection to it gives room for 256^v miners, v bytes being taken from its
 * extranonce2 (`splitBytes`); when room runs short, another connection is opened.
 */
import { hexFromBytes } from '../../core/bitcoin/bytes.ts';
import type { UpstreamAddress } from '../../core/config.ts';
import type { UpstreamRow } from '../control/control-commands.ts';
import type { Daemon } from '../daemon.ts';
import { realText } from '../sharelog.ts';
import { ckproxySplitBytes, EnonceAllocator, splitBytes } from './enonce.ts';
import { type Job, type JobContent, JobRegistry } from './job.ts';
import type { JudgedShare, WorkSource } from './source.ts';
import { type Terms, UpstreamConnection, type UpstreamVerdict } from './upstream.ts';
import type { Notify } from './upstream-messages.ts';

const TEND_MS = 250;
/** A failing upstream is tried again after this, doubled each time up to the limit. */
const RETRY_FIRST_MS = 1_000;
const RETRY_LIMIT_MS = 60_000;
/** Another connection is opened where fewer places than this are left, but never more than the limit. */
const ROOM_KEPT = 2;
const LINKS_LIMIT = 64;
/** How long a better upstream may take to answer before a worse one is asked. */
const GRACE_MS = 2_000;
/** One that was preferred to a working upstream and gave work for less than this is asked less and less often: each time moves all miners. */
const STEADY_MS = 60_000;

interface Counters {
  forwarded: number;
  accepted: number;
  refused: number;
}

/** One upstream connection as a source of work. */
class Link implements WorkSource {
  readonly jobs: JobRegistry;
  enonces: EnonceAllocator;
  nonce2Bytes = 0;
  versionMask = 0;
  ready = false;
  /** When its first work came; Infinity: not yet. */
  workingMs = Infinity;
  readonly proxyId: string;
  readonly upstream: Upstream;
  readonly connection: UpstreamConnection;
  readonly #proxy: ProxyUpstreams;
  readonly #daemon: Daemon;
  #work: Notify | null = null;
  /** What the log says at the first. */
  #firstNotify = '';
  #variants = 0;
  #upstreamDiff = 1;
  #prefixBytes = 0;

  constructor(proxy: ProxyUpstreams, daemon: Daemon, upstream: Upstream) {
    this.#proxy = proxy;
    this.#daemon = daemon;
    this.upstream = upstream;
    this.proxyId = `${proxy.indexOf(upstream)}:${upstream.opened++}`;
    this.jobs = new JobRegistry(daemon.config.origin, daemon.profile, daemon.ids);
    this.enonces = new EnonceAllocator(new Uint8Array(0), 0, 0n);
    const { profile, config } = daemon;
    this.connection = new UpstreamConnection(
      upstream.address,
      { powLimit: profile.pow_limit, versionMask: (config.versionMask & profile.version_mask) >>> 0 },
      {
        ready: (terms) => this.#begin(terms),
        notify: (work, diff) => this.#take(work, diff),
        mask: (mask) => this.#narrow(mask),
        closed: (reason) => proxy.lost(this, reason),
        say: daemon.log,
      },
    );
  }

  /** What the upstream asks for now. */
  get diff(): number {
    return this.#upstreamDiff;
  }

  #begin(terms: Terms): void {
    const { nonce2Length } = this.#proxy;
    const split = this.#daemon.config.compat === 'ckpool' ? ckproxySplitBytes : splitBytes;
    const own = nonce2Length === null ? split(terms.nonce2Bytes) : Math.max(terms.nonce2Bytes - nonce2Length, 0);
    this.#prefixBytes = terms.enonce1.length;
    this.enonces = new EnonceAllocator(terms.enonce1, own, BigInt(Math.floor(this.#daemon.nowMs() / 1000)));
    this.nonce2Bytes = terms.nonce2Bytes - own;
    this.versionMask = terms.versionMask;
    this.ready = true;
    const [upstream] = this.proxyId.split(':');
    this.#firstNotify = `Found notify for new proxy ${this.proxyId} with enonce ${hexFromBytes(terms.enonce1)} nonce2len ${terms.nonce2Bytes}`;
    this.#daemon.log(`Stratifier added new proxy ${upstream}`, 5);
    this.#daemon.log(
      `Upstream pool ${this.connection.name} ${upstream} extranonce2 length ${terms.nonce2Bytes}, max proxy clients ${this.enonces.capacity}`,
    );
    this.#daemon.log(`Proxy ${upstream}:${this.connection.name} connection established`, 5);
  }

  #take(work: Notify, diff: number): void {
    if (this.#work === null) this.#daemon.log(this.#firstNotify, 5);
    this.#work = work;
    this.#variants = 0;
    this.#upstreamDiff = diff;
    const job = this.#make(work, 0, undefined);
    this.#daemon.broadcast(this, job);
    if (job.clean)
      this.#daemon.log(`Block hash on proxy ${this.proxyId.split(':')[0]} changed to ${work.prevHashRpc}`, 5);
    this.#proxy.working(this);
  }

  variant(): Job | null {
    const { current } = this.jobs;
    if (this.#work === null || current === null) return null;
    // The coinbase is the upstream's: only the time can make the headers others, and miners may roll it anyway.
    this.#variants += 1;
    return this.#make(this.#work, this.#variants, current);
  }

  readonly solo = false;

  jobFor(_user: string, job: Job): Job {
    return job;
  }

  userFault(): null {
    return null;
  }

  txids(): null {
    return null;
  }

  #make(work: Notify, later: number, variantOf: Job | undefined): Job {
    const content: JobContent = {
      height: work.height,
      prevHashRpc: work.prevHashRpc,
      coinbase1: work.coinbase1,
      coinbase2: work.coinbase2,
      branch: work.branch,
      version: work.version,
      versionMask: this.versionMask,
      bits: work.bits,
      ntime: work.ntime + later,
      enonce1Bytes: this.enonces.sizeBytes,
      nonce2Bytes: this.nonce2Bytes,
    };
    return this.#daemon.makeJob(this.jobs, content, {
      value: null,
      txCount: -1,
      template: null,
      upstream: { name: this.connection.name, jobId: work.jobId, diff: this.#upstreamDiff },
      clean: work.clean,
      ...(variantOf === undefined ? {} : { variantOf }),
    });
  }

  #narrow(mask: number): void {
    // Who never negotiated rolls nothing (BIP 310).
    this.versionMask = mask;
    this.#daemon.maskChanged(this);
  }

  concerns(job: Job, sdiff: number, solves: boolean): boolean {
    return job.upstream !== null && (solves || sdiff * job.wireMultiplier >= job.upstream.diff);
  }

  judged({ job, submission, verdict, enonce1, event }: JudgedShare): void {
    const { proof } = verdict;
    const { upstream } = job;
    if (proof === null || upstream === null) return;
    const fits = verdict.accepted || verdict.errn === 2;
    const meets = proof.sdiff * job.wireMultiplier >= upstream.diff;
    // One that solves goes up whatever else is said of it; a duplicate has gone already.
    const solves = proof.solves && !(!verdict.accepted && verdict.errn === 4);
    if (!solves && !(fits && meets)) return;
    const ours = hexFromBytes(enonce1.subarray(this.#prefixBytes));
    this.#proxy.counters.forwarded += 1;
    this.connection.submit(
      {
        jobId: upstream.jobId,
        nonce2: ours + hexFromBytes(submission.nonce2),
        ntime: submission.ntime.toString(16).padStart(8, '0'),
        nonce: submission.nonce.toString(16).padStart(8, '0'),
        versionBits: submission.versionBits === null ? null : submission.versionBits.toString(16).padStart(8, '0'),
      },
      (said) => this.#record(said, event, upstream.name),
    );
  }

  /** The upstream's verdict: an event of its own, never a change of ours. */
  #record(said: UpstreamVerdict, event: JudgedShare['event'], upstream: string): void {
    const { counters } = this.#proxy;
    if (said.accepted) counters.accepted += 1;
    else counters.refused += 1;
    this.#daemon.facts.share({
      ...event,
      kind: 'verdict',
      time_us: this.#daemon.facts.timeUs(),
      accepted: said.accepted,
      errn: said.accepted ? 0 : UPSTREAM_REFUSED,
      reason: said.reason,
      upstream,
    });
  }
}

/** `errn` of a verdict that refuses: the upstream's own number is not CKPool's. */
const UPSTREAM_REFUSED = 100;

/** One entry of the configuration. */
class Upstream {
  readonly address: UpstreamAddress;
  readonly links = new Set<Link>();
  /** Connections so far. */
  opened = 0;
  retryMs = RETRY_FIRST_MS;
  nextTryMs = 0;
  problem: string | null = null;

  constructor(address: UpstreamAddress) {
    this.address = address;
  }

  /** True where at least one connection has work. */
  get alive(): boolean {
    for (const link of this.links) if (link.ready && link.jobs.current !== null) return true;
    return false;
  }
}

export class ProxyUpstreams {
  readonly counters: Counters = { forwarded: 0, accepted: 0, refused: 0 };
  /** `nonce2length` of the configuration; null: by the rule. */
  readonly nonce2Length: number | null;
  readonly #daemon: Daemon;
  readonly #upstreams: readonly Upstream[];
  #timer: NodeJS.Timeout | undefined;
  #current = -1;
  /** Since when no upstream is in use. */
  #searchingMs = 0;
  #closed = false;

  constructor(daemon: Daemon, addresses: readonly UpstreamAddress[]) {
    this.#daemon = daemon;
    this.nonce2Length = daemon.config.nonce2Bytes;
    this.#upstreams = addresses.map((address) => new Upstream(address));
    daemon.pickSource = () => this.#pick();
  }

  indexOf(upstream: Upstream): number {
    return this.#upstreams.indexOf(upstream);
  }

  start(): void {
    this.#searchingMs = this.#daemon.nowMs();
    this.#timer = setInterval(() => this.#tend(), TEND_MS);
    this.#tend();
  }

  /** A connection with a free place, of the upstream in use. */
  #pick(): Link | null {
    const now = this.#daemon.nowMs();
    for (const link of this.#upstreams[this.#current]?.links ?? []) {
      if (link.ready && link.jobs.current !== null && link.enonces.room(now) > 0) return link;
    }
    return null;
  }

  /** Opens what is missing: the upstream in use needs room, better ones are tried again. */
  #tend(): void {
    if (this.#closed) return;
    const now = this.#daemon.nowMs();
    for (const [index, upstream] of this.#upstreams.entries()) {
      if (this.#current >= 0 && index > this.#current) break;
      if (upstream.links.size === 0) {
        if (now >= upstream.nextTryMs) this.#open(upstream);
      }
      if (this.#current < 0 && upstream.problem === null && now - this.#searchingMs < GRACE_MS) break;
      if (index !== this.#current) continue;
      const opening = [...upstream.links].some((link) => !link.ready);
      let room = 0;
      for (const link of upstream.links) if (link.ready) room += link.enonces.room(now);
      if (room < ROOM_KEPT && !opening && upstream.links.size < LINKS_LIMIT && now >= upstream.nextTryMs) {
        this.#open(upstream);
      }
    }
  }

  #open(upstream: Upstream): void {
    upstream.nextTryMs = this.#daemon.nowMs() + upstream.retryMs;
    upstream.links.add(new Link(this, this.#daemon, upstream));
  }

  /** A connection has work: its upstream is used where it is better than the present one. */
  working(link: Link): void {
    const { upstream } = link;
    const index = this.#upstreams.indexOf(upstream);
    if (link.workingMs === Infinity) link.workingMs = this.#daemon.nowMs();
    upstream.nextTryMs = 0;
    // With another at work it first has to show that it stays.
    if (this.#current < 0) upstream.retryMs = RETRY_FIRST_MS;
    if (upstream.problem !== null) {
      this.#daemon.log(`upstream ${link.connection.name} answers again`);
      this.#daemon.log(`Proxy ${index}:${link.connection.name} recovered`, 5);
    }
    upstream.problem = null;
    if (this.#current < 0 || index < this.#current) {
      this.#daemon.log(`Stratifier setting active proxy to ${index}`, 5);
      this.#daemon.log(`Successfully connected to pool ${index} ${link.connection.name} as proxy`);
      this.#current = index;
      for (const worse of this.#upstreams.slice(index + 1)) {
        for (const old of [...worse.links]) old.connection.close('a better upstream is back');
      }
    }
    this.#daemon.ready = true;
  }

  /** A connection has ended, or never was. */
  lost(link: Link, reason: string): void {
    const { upstream } = link;
    if (!upstream.links.delete(link) || this.#closed) return;
    const index = this.#upstreams.indexOf(upstream);
    const line = `upstream ${link.connection.name}: ${reason}`;
    if (upstream.problem !== line) {
      this.#daemon.log(`${line}; trying again`);
      this.#daemon.log(`Proxy ${index}:${link.connection.name} failed, attempting reconnect`, 5);
    }
    upstream.problem = line;
    // Many connections that end together are one failure.
    if (upstream.links.size === 0) {
      if (this.#daemon.nowMs() - link.workingMs >= STEADY_MS) upstream.retryMs = RETRY_FIRST_MS;
      upstream.nextTryMs = this.#daemon.nowMs() + upstream.retryMs;
      upstream.retryMs = Math.min(upstream.retryMs * 2, RETRY_LIMIT_MS);
    }
    const over = index === this.#current && !upstream.alive;
    if (over) {
      this.#current = this.#upstreams.findIndex((other) => other.alive);
      if (this.#current < 0) {
        this.#searchingMs = this.#daemon.nowMs();
        this.#daemon.ready = false;
      }
    }
    this.#daemon.moves.drop(link, 'the upstream is gone');
    if (over) this.#tend();
  }

  status(): { problems: string[]; values: Record<string, number | string>; current: Job | null } {
    const current = this.#upstreams[this.#current];
    const link = current === undefined ? undefined : [...current.links].find((each) => each.jobs.current !== null);
    const problems = this.#upstreams
      .slice(0, this.#current < 0 ? undefined : this.#current)
      .map((upstream) => upstream.problem ?? `upstream ${upstream.address.url} has not answered yet`);
    return {
      problems,
      values: {
        upstream: link?.connection.name ?? '',
        upstream_connections_count: current?.links.size ?? 0,
        shares_forwarded_count: this.counters.forwarded,
        shares_accepted_upstream_count: this.counters.accepted,
        shares_refused_upstream_count: this.counters.refused,
      },
      current: link?.jobs.current ?? null,
    };
  }

  /** The upstreams in the order of the configuration, for the control sockets. */
  rows(): UpstreamRow[] {
    return this.#upstreams.map(({ address, alive, links, problem }, id) => ({
      id,
      url: address.url,
      auth: address.auth,
      alive,
      current: id === this.#current,
      connections: links.size,
      problem,
    }));
  }

  /** What CKProxy says of its upstreams each minute: one line as a notice, the others as information. */
  lines(): [string, 5 | 6][] {
    const alive = this.#upstreams.filter((upstream) => upstream.alive).length;
    const lines: [string, 5 | 6][] = [
      [`Proxy:{"current": ${Math.max(this.#current, 0)}, "active": ${alive}, "total": ${this.#upstreams.length}}`, 5],
    ];
    for (const [id, upstream] of this.#upstreams.entries()) {
      const links = [...upstream.links];
      const miners = links.map((link) => link.enonces.taken);
      const clients = miners.reduce((sum, count) => sum + count, 0);
      lines.push([
        `Proxies:{"id": ${id}, "subproxies": ${links.length}, "clients": ${clients}, "alive": ${upstream.alive}}`,
        6,
      ]);
      for (const [subid, link] of links.entries()) {
        lines.push([
          `Subproxies:{"id": ${id}, "subid": ${subid}, "nonce2len": ${link.nonce2Bytes}, "clients": ${miners[subid]}, ` +
            `"maxclients": ${link.enonces.capacity}, "diff": ${realText(link.diff)}, "alive": ${link.ready}}`,
          6,
        ]);
      }
    }
    return lines;
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    for (const upstream of this.#upstreams) {
      for (const link of upstream.links) link.connection.close('the proxy stopped');
    }
  }
}
