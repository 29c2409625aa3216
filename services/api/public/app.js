/**
 * The page: asks the JSON API every few seconds and writes what came into the document. Text is always set as text, never as HTML:
 * names of workers are whatever somebody typed.
 */
import {
  bytes,
  coins,
  count,
  difficulty,
  duration,
  hashrate,
  payoutCheck,
  percent,
  poolLine,
  scaled,
  short,
  timeRange,
} from './format.js';
import uPlot from './uplot.js';

const FAST_MS = 3_000;
const SLOW_MS = 5_000;
const $ = (id) => document.getElementById(id);
const state = { minutes: 180, origin: new URLSearchParams(location.search).get('origin'), unit: null, offset: 0 };

/** An element with text or children. */
function el(tag, { title, ...props } = {}, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  if (title !== undefined) node.title = title;
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
const text = (id, value, title) => {
  const node = $(id);
  node.textContent = value;
  if (title !== undefined) node.title = title;
};
const cell = (value, className = '') => el('td', { className }, value);
const tag = (word) => el('span', { className: `tag ${word}` }, word);
const now = () => Date.now() / 1000 + state.offset;
const age = (seconds) => (seconds ? duration(now() - Number(seconds)) : '–');

/** Replaces the rows of a table; shows the words for emptiness where there are none. */
function fill(id, rows) {
  const table = $(id);
  table.tBodies[0].replaceChildren(...rows);
  table.hidden = rows.length === 0;
  $(`empty-${id}`).hidden = rows.length > 0;
}

const failing = new Map();
async function get(path) {
  const url = new URL(path, location.href);
  if (state.origin !== null && !url.searchParams.has('origin')) url.searchParams.set('origin', state.origin);
  const response = await fetch(url, { signal: AbortSignal.timeout(20_000) });
  const body = await response.json();
  if (!response.ok && path !== '/healthz') throw new Error(body?.error?.message ?? `HTTP ${response.status}`);
  return body;
}

/** Runs a part of the page again and again; one that fails says so in the banner and leaves the others alone. */
function part(name, everyMs, work) {
  let timer = 0;
  let busy = false;
  let again = false;
  const turn = async () => {
    clearTimeout(timer);
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    again = false;
    if (!document.hidden) {
      try {
        await work();
        failing.delete(name);
      } catch (error) {
        failing.set(name, error.message === 'Failed to fetch' ? 'the API does not answer' : error.message);
      }
      say();
    }
    busy = false;
    timer = setTimeout(turn, again ? 0 : everyMs);
  };
  turn();
  return turn;
}

function say() {
  const words = [...new Set(failing.values())].join(' · ');
  $('banner').hidden = words === '';
  $('banner').textContent = words;
  if (failing.has('health')) {
    $('health').dataset.state = 'wrong';
    text('health', 'not connected');
  }
}

// --- summary ---------------------------------------------------------------------------------------------------------------------

async function summary() {
  const s = await get('/api/summary');
  state.offset = s.time_s - Date.now() / 1000;
  state.unit = { coin: s.chain.coin ?? '', decimals: s.chain.decimals ?? 8, name: s.chain.smallest_unit };
  text('chain', s.chain.title || s.chain.name || 'no chain yet');
  origins(s);
  const pool = s.pools.find((each) => each.origin === s.origin);
  text('pool-hashrate', pool ? hashrate(pool.hashrate_hps) : '–');
  text(
    'pool-sub',
    pool
      ? `${count(pool.workers)} workers, ${count(pool.users)} users · 24 h ${hashrate(pool.hashrate_day_hps)}`
      : 'no share in 24 h',
  );
  text('net-hashrate', hashrate(s.network?.hashrate_hps));
  text(
    'net-sub',
    s.network
      ? `over ${s.network.blocks} blocks${pool && Number(s.network.hashrate_hps) > 0 ? ` · pool ${percent(pool.hashrate_hps / Number(s.network.hashrate_hps))}` : ''}`
      : 'no block yet',
  );
  text('difficulty', difficulty(s.epoch?.difficulty ?? s.network?.difficulty));
  const change = s.epoch?.next_difficulty ? s.epoch.next_difficulty / s.epoch.difficulty - 1 : null;
  text(
    'difficulty-sub',
    change === null
      ? 'no forecast'
      : isEarly(s.epoch)
        ? 'next: too early to say'
        : `next ${difficulty(s.epoch.next_difficulty)} (${signed(change)})${forecast(s)}`,
  );
  const tip = s.tip;
  text('height', tip?.height === undefined ? '–' : count(tip.height), tip?.hash);
  text(
    'height-sub',
    tip?.height === undefined
      ? 'the follower does not say'
      : tip.behind_blocks > 0
        ? `${count(tip.behind_blocks)} blocks behind the node`
        : `${age(tip.block_time_us / 1e6)} ago`,
  );
  text('shares', pool ? count(pool.accepted) : '–');
  const all = pool ? Number(pool.accepted) + Number(pool.refused) : 0;
  text(
    'shares-sub',
    all > 0
      ? `${count(pool.refused)} refused (${percent(Number(pool.refused) / all, 2)}), ${count(pool.stale)} stale`
      : ' ',
  );
  const expected = s.effort?.diff > 0 ? s.effort.diff / s.effort.difficulty : 0;
  text('luck', expected >= 0.05 ? percent(s.effort.own_blocks / expected, 0) : '–');
  text(
    'luck-sub',
    expected > 0
      ? `${count(s.effort.own_blocks)} blocks found, ${expected.toFixed(expected < 10 ? 2 : 1)} expected${s.search?.effort == null ? '' : ` · effort since: ${percent(s.search.effort, 0)}`}`
      : ' ',
    s.search?.effort == null
      ? undefined
      : `effort since our last block: accepted difficulty over the network's; a block was ${percent(s.search.chance, 0)} likely by now`,
  );
  epochPanel(s);
}

function origins(s) {
  const names = [...s.origins];
  if (!names.includes(s.origin)) names.unshift(s.origin);
  const select = $('origin');
  if (names.join() !== [...select.options].map((option) => option.value).join()) {
    select.replaceChildren(...names.map((name) => el('option', { value: name }, name)));
  }
  select.value = s.origin;
  $('origin-label').hidden = names.length < 2;
}

const signed = (ratio) => `${ratio >= 0 ? '+' : '−'}${percent(Math.abs(ratio))}`;
/** Local; of what is less than a day away the time alone. */
const date = (s) => {
  const at = new Date(s * 1000);
  const near = Math.abs(s - now()) < 86_400;
  return near
    ? at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
    : at.toLocaleDateString([], { day: 'numeric', month: 'short', year: 'numeric' });
};
/** When the next difficulty is due. */
function forecast(s) {
  const at = nextRetarget(s);
  return at && at > now() ? ` · ${date(at)}` : '';
}
function nextRetarget({ epoch: e, chain }) {
  // Block 0 was made up long before the first miner: what counts from its time says nothing of now.
  return e.first_height === 0 ? now() + (chain.payout_blocks - e.blocks) * chain.target_spacing_s : e.next_time_s;
}

/** In an epoch's first blocks the forecast says nothing: its interval is wider than a factor of three. */
const isEarly = (e) => e.next_difficulty_low !== null && e.next_difficulty_high > 3 * e.next_difficulty_low;
/** How far the next difficulty and its date may be off, with 95 % certainty. */
function nextDifficultyText(e) {
  const change = (value) => signed(value / e.difficulty - 1);
  if (!e.next_difficulty) return '–';
  if (e.status !== 'open') return `${difficulty(e.next_difficulty)} (${change(e.next_difficulty)})`;
  if (e.next_difficulty_low === null) return `${difficulty(e.next_difficulty)} (forecast)`;
  const [low, high] = [change(e.next_difficulty_low), change(e.next_difficulty_high)];
  const range = `${low} to ${high}`;
  if (isEarly(e)) return `too early to say (${range})`;
  // Against the limit of a retarget both ends are the forecast itself.
  if (low === high) return `${difficulty(e.next_difficulty)} (forecast, ${change(e.next_difficulty)})`;
  return `${difficulty(e.next_difficulty)} (forecast, ${change(e.next_difficulty)}; ${range})`;
}
function nextRetargetText(s, at) {
  const e = s.epoch;
  if (!at) return '–';
  if (at <= now()) return 'any moment';
  if (isEarly(e) && e.first_height > 0) return `between ${date(e.next_time_low_s)} and ${date(e.next_time_high_s)}`;
  return `in about ${duration(at - now())}, ${date(at)}`;
}

function epochPanel(s) {
  const e = s.epoch;
  const total = s.chain.payout_blocks;
  text(
    'epoch-note',
    e ? `epoch ${e.epoch}, heights ${count(e.first_height)} to ${count(e.last_height)}` : 'no epoch yet',
  );
  const done = e && total ? e.blocks / total : 0;
  $('epoch-progress').firstElementChild.style.width = `${done * 100}%`;
  $('epoch-progress').setAttribute('aria-valuenow', Math.round(done * 100));
  if (!e) return $('epoch-facts').replaceChildren();
  // Block 0 was made up long before the first miner: what counts from its time says nothing of now.
  const young = e.first_height === 0;
  const mean = Number(e.span_s) / Math.max(1, e.intervals ?? e.blocks);
  const nextTime = nextRetarget(s);
  const facts = [
    ['Blocks', `${count(e.blocks)} of ${count(total)}`],
    [
      'Mean block time',
      !young && e.blocks > 0 && Number(e.span_s) > 0
        ? `${mean < 10 ? `${mean.toFixed(1)} s` : duration(mean)} (target ${duration(s.chain.target_spacing_s)})`
        : '–',
    ],
    ['Next retarget', nextRetargetText(s, nextTime)],
    ['Next difficulty', nextDifficultyText(e)],
    ['Network in this epoch', Number(e.hashrate_hps) > 0 ? hashrate(e.hashrate_hps) : '–'],
    ['Fees so far', coins(e.fees_sats, state.unit)],
    ['Our blocks', count(e.own_blocks)],
  ];
  $('epoch-facts').replaceChildren(
    ...facts.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))),
  );
}

// --- charts ----------------------------------------------------------------------------------------------------------------------

const charts = {};
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Local times as the logs write them. Columns are uPlot's: least step in seconds, label, and what is added where a year, month, day, … begins. */
const DAY = '\n{YYYY}-{MM}-{DD}';
const TIMES = [
  [86_400 * 28, '{YYYY}-{MM}', null, null, null, null, null, null, 1],
  [86_400, '{MM}-{DD}', '\n{YYYY}', null, null, null, null, null, 1],
  [60, '{HH}:{mm}', DAY, null, DAY, null, null, null, 1],
  [1, '{HH}:{mm}:{ss}', DAY, null, DAY, null, null, null, 1],
];

function draw(id, emptyId, data, name, colour, format) {
  const box = $(id);
  const empty = data[0].length === 0;
  $(emptyId).hidden = !empty;
  box.hidden = empty;
  if (empty) return;
  const old = charts[id];
  if (old && old.colour === css(colour)) {
    old.plot.setData(data);
    return;
  }
  old?.plot.destroy();
  const axis = {
    stroke: css('--dim'),
    grid: { stroke: css('--line'), width: 1 },
    ticks: { show: false },
    font: '12px system-ui',
  };
  const plot = new uPlot(
    {
      width: box.clientWidth,
      height: 230,
      padding: [null, 30, null, null],
      cursor: { y: false },
      legend: { live: true },
      scales: { x: { range: timeRange }, y: { range: (_u, _min, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [
        { ...axis, space: 70, values: TIMES },
        { ...axis, size: 78, values: (_u, values) => values.map((v) => (v === 0 ? '0' : format(v))) },
      ],
      series: [
        { value: (_u, v) => (v === null ? '–' : new Date(v * 1000).toLocaleString()) },
        {
          label: name,
          stroke: css(colour),
          width: 2,
          fill: `${css(colour)}22`,
          spanGaps: false,
          points: { show: data[0].length < 3 },
          value: (_u, v) => (v === null ? '–' : format(v)),
        },
      ],
    },
    data,
    box,
  );
  charts[id] = { plot, colour: css(colour) };
}

/** One point a second at most: times of blocks are not in order. */
function networkLine(s) {
  const byTime = new Map(s.network.map((row) => [row.time_s, Number(row.hashrate_hps)]));
  const times = [...byTime.keys()].sort((a, b) => a - b);
  return [times, times.map((t) => byTime.get(t))];
}

async function series() {
  const s = await get(`/api/series?minutes=${state.minutes}`);
  draw('chart-pool', 'empty-pool', poolLine(s, now()), 'pool', '--amber', hashrate);
  draw('chart-net', 'empty-net', networkLine(s), 'network', '--blue', hashrate);
}

// --- tables ----------------------------------------------------------------------------------------------------------------------

async function workers() {
  const { rows } = await get('/api/workers?limit=100');
  text('workers-note', rows.length > 0 ? `${rows.length} in 24 h` : '');
  fill(
    'workers',
    rows.map((row) => {
      const quiet = now() - Number(row.last_share_s) > 600;
      return el(
        'tr',
        { className: quiet ? 'dim' : '' },
        el('td', { title: row.worker }, short(row.worker || '(no name)', 22, 12)),
        cell(hashrate(row.hashrate_hps), 'n'),
        cell(hashrate(row.hashrate_day_hps), 'n'),
        cell(count(row.accepted), 'n'),
        cell(count(row.refused), Number(row.refused) > 0 ? 'n gold' : 'n'),
        cell(difficulty(row.best_sdiff), 'n'),
        cell(`${age(row.last_share_s)} ago`, quiet ? 'n bad' : 'n'),
      );
    }),
  );
}

async function blocks() {
  const { rows } = await get(`/api/blocks?limit=12${$('ours').checked ? '&ours=1' : ''}`);
  const taken = new Set(rows.filter((row) => row.on_chain).map((row) => row.height));
  fill(
    'blocks',
    rows.map((row) =>
      el(
        'tr',
        { title: row.hash },
        cell(count(row.height), 'n'),
        el(
          'td',
          { title: row.worker },
          row.worker
            ? short(row.worker, 18, 8)
            : el('span', { className: 'dim' }, row.ours ? 'not in this log' : 'others'),
          row.ours || row.solved ? tag('ours') : null,
        ),
        cell(row.status === 'solved' && taken.has(row.height) ? lost() : tag(row.status)),
        effortCell(row),
        cell(coins(row.fees_sats, state.unit), 'n'),
        cell(age(row.time_s), 'n'),
      ),
    ),
  );
}

/** Below 100 % is lucky. */
function effortCell({ effort, luck_10, luck_100 }) {
  if (effort === null || effort === undefined) return cell('', 'n');
  const title = `luck of the last 10: ${percent(luck_10, 0)}, of the last 100: ${percent(luck_100, 0)}`;
  return el('td', { className: effort > 2 ? 'n bad' : 'n', title }, percent(effort, effort < 1 ? 1 : 0));
}

const lost = () =>
  el('span', { className: 'tag orphaned', title: 'another block of this height is on the chain' }, 'lost');

async function epochs() {
  const { rows } = await get('/api/epochs?limit=8');
  fill(
    'epochs',
    rows.map((row) =>
      el(
        'tr',
        { title: row.closing_hash ? `closed by ${row.closing_hash}` : '' },
        cell(count(row.epoch), 'n'),
        cell(tag(row.status)),
        cell(count(row.blocks), 'n'),
        cell(difficulty(row.difficulty), 'n'),
        cell(Number(row.hashrate_hps) > 0 ? hashrate(row.hashrate_hps) : '–', 'n'),
        cell(
          row.next_nbits_alarm
            ? el(
                'span',
                { className: 'bad', title: 'the chain chose another difficulty than the rule predicts' },
                `${difficulty(row.next_difficulty)} !`,
              )
            : difficulty(row.next_difficulty),
          'n',
        ),
        el(
          'td',
          {
            className: 'n',
            title: row.expected === null ? '' : `${count(row.found)} found, ${row.expected.toFixed(2)} expected`,
          },
          row.expected >= 0.05 ? percent(row.luck, 0) : '–',
        ),
      ),
    ),
  );
}

async function contracts() {
  const [{ rows }, payouts] = await Promise.all([get('/api/contracts'), get('/api/payouts?limit=24')]);
  $('empty-contracts').hidden = rows.length > 0;
  const time = (s) => new Date(Number(s) * 1000).toLocaleString();
  $('contracts').replaceChildren(
    ...rows.map((row) => {
      const owed = payouts.rows
        .filter((p) => p.contract_id === row.contract_id && p.status === 'owed')
        .reduce((sum, p) => sum + BigInt(p.amount_sats), 0n);
      return el(
        'article',
        { className: 'card' },
        el('h3', {}, row.contract_id, tag(row.status)),
        el(
          'p',
          {},
          el('b', {}, hashrate(row.hashrate_hps)),
          ` from ${row.from_height ? `height ${count(row.from_height)}` : time(row.from_time_s)} to ${row.to_height ? `height ${count(row.to_height)}` : row.to_time_s ? time(row.to_time_s) : 'an open end'}`,
        ),
        el(
          'p',
          {},
          `fees: ${row.fee_basis === 'network' ? 'all blocks' : 'own blocks'} · first ${row.skip_payouts} skipped`,
        ),
        el('p', { title: row.payout_address }, `pays ${short(row.payout_address, 14, 8)}`),
        el('p', {}, 'owed in the list below ', el('b', {}, coins(owed, state.unit))),
      );
    }),
  );
  const open = new Set([...document.querySelectorAll('#payouts details[open]')].map((each) => each.dataset.id));
  fill(
    'payouts',
    payouts.rows.map((p) => {
      const id = `${p.contract_id}/${p.epoch}`;
      return el(
        'tr',
        {},
        cell(p.contract_id),
        cell(count(p.epoch), 'n'),
        cell(tag(p.status)),
        cell(coins(p.amount_sats, state.unit), p.status === 'skipped' ? 'n dim' : 'n'),
        cell(`${count(p.covered_blocks)} of ${p.last_height - p.first_height + 1}`, 'n'),
        cell(arithmetic(p, id, open.has(id)), 'wrap'),
      );
    }),
  );
}

/** How a payout comes about, from its own columns, and done again here. */
function arithmetic(p, id, isOpen) {
  const box = el('details', { open: isOpen });
  box.dataset.id = id;
  const again = payoutCheck(p);
  const same = again !== null && again === BigInt(p.amount_sats);
  box.append(
    el(
      'summary',
      {},
      p.status === 'forecast'
        ? 'forecast: the epoch is not final'
        : p.status === 'skipped'
          ? `period ${p.period} of the first ${p.skip_payouts} skipped`
          : `period ${p.period}`,
      el('span', { className: same ? 'ok' : 'bad' }, same ? ' ✓ adds up' : ' ✗ does not add up'),
    ),
    el(
      'div',
      { className: 'sum' },
      el('b', {}, '⌊ T · (ΣHS · N + ΣH · ΣF) · t / (T₁ · W · N) ⌋'),
      ...[
        ['T', `${p.target_spacing_s} s per block`],
        [
          'ΣHS',
          `${p.sum_hashrate_subsidy} (hashrate times subsidy, over ${p.covered_blocks} heights from ${p.first_height} to ${p.last_height})`,
        ],
        ['ΣH', `${p.sum_hashrate} h/s, summed over the heights`],
        ['N, ΣF', `${p.fee_blocks} blocks (${p.fee_basis}) with ${p.fees_sats} ${state.unit?.name ?? 'units'} of fees`],
        ['D = T₁/t', `nBits ${p.nbits}${p.closing_hash ? ` of block ${p.closing_hash}` : ', a forecast'}`],
        ['W', `${p.hashes_per_difficulty} hashes per difficulty`],
        ['', `${p.numerator} / ${p.denominator} = ${p.amount_sats}`],
      ].map(([name, value]) => el('div', {}, name === '' ? '' : el('b', {}, `${name} = `), value)),
    ),
  );
  return box;
}

async function recent() {
  const { rows } = await get('/api/shares/recent?limit=10');
  fill(
    'recent',
    rows.map((row) =>
      el(
        'tr',
        {},
        cell(age(row.time_s), 'n'),
        el('td', { title: row.worker }, short(row.worker, 22, 12)),
        cell(count(row.height), 'n'),
        cell(difficulty(row.diff), 'n'),
        cell(row.sdiff < 0 ? '–' : difficulty(row.sdiff), 'n'),
        cell(row.accepted ? tag('accepted') : el('span', {}, tag('refused'), ` ${row.reason}`)),
      ),
    ),
  );
}

// --- pipeline --------------------------------------------------------------------------------------------------------------------

const RARE = /^(submissions_malformed|connections_(refused|without|unread)|worker_processes_died|handover|bans)/;

async function pipeline() {
  const h = await get('/healthz');
  const pill = $('health');
  pill.dataset.state = h.status;
  text(
    'health',
    h.status === 'ok' ? 'all well' : `${h.problems.length} ${h.problems.length === 1 ? 'problem' : 'problems'}`,
  );
  $('problems').replaceChildren(...h.problems.map((p) => el('li', {}, p.what, el('small', {}, p.mend))));
  const c = h.checks;
  text(
    'checks',
    [
      c.job_age_s === null ? 'no job yet' : `newest job ${duration(c.job_age_s)} old`,
      c.lag_s === null ? null : `lag ${duration(c.lag_s)}`,
      `${count(c.dead_letters_count)} dead letters`,
      `${bytes(c.disk_free_bytes)} free`,
      `ClickHouse ${c.clickhouse === 'ok' ? 'answers' : 'does not answer'}`,
    ]
      .filter((each) => each !== null)
      .join(' · '),
  );
  $('programs').replaceChildren(
    ...h.programs.flatMap((p) => {
      const list = el('dl');
      for (const [name, value] of Object.entries(p.values)) {
        if (/_pid$|hash$|_seq$/.test(name)) continue;
        // What has never happened and happens rarely: no place for it until it does.
        if (value === 0 && RARE.test(name)) continue;
        list.append(
          el('dt', {}, name.replace(/_(s|us|bytes|count|hps)$/, '').replaceAll('_', ' ')),
          el('dd', {}, valueText(name, value)),
        );
      }
      if (list.childElementCount === 0 && p.status === 'ok') return [];
      return [el('article', { className: 'card' }, el('h3', {}, p.program, tag(p.status)), list)];
    }),
  );
}

function valueText(name, value) {
  if (typeof value !== 'number') return short(value, 18, 6);
  if (/_time_us$/.test(name)) return value === 0 ? '–' : `${age(value / 1e6)} ago`;
  if (/_s$/.test(name)) return duration(value);
  if (/_hps$/.test(name)) return hashrate(value);
  if (/_bytes$/.test(name)) return bytes(value);
  return Number.isInteger(value) ? count(value) : scaled(value).trim();
}

// --- running ---------------------------------------------------------------------------------------------------------------------

const nowParts = [
  part('health', FAST_MS, pipeline),
  part('summary', FAST_MS, summary),
  part('workers', FAST_MS, workers),
  part('recent', FAST_MS, recent),
  part('blocks', FAST_MS, blocks),
  part('series', SLOW_MS, series),
  part('epochs', SLOW_MS, epochs),
  part('contracts', SLOW_MS, contracts),
];
const refresh = () => {
  for (const again of nowParts) again();
};
for (const button of $('spans').querySelectorAll('button')) {
  button.addEventListener('click', () => {
    state.minutes = Number(button.dataset.minutes);
    for (const other of $('spans').querySelectorAll('button'))
      other.setAttribute('aria-pressed', String(other === button));
    refresh();
  });
}
$('ours').addEventListener('change', refresh);
$('origin').addEventListener('change', () => {
  state.origin = $('origin').value;
  history.replaceState(null, '', `?origin=${encodeURIComponent(state.origin)}`);
  refresh();
});
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) refresh();
});
addEventListener('resize', () => {
  for (const [id, { plot }] of Object.entries(charts)) plot.setSize({ width: $(id).clientWidth, height: 230 });
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', refresh);
