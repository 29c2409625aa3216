/** CKPool 0.9.9's status files as the reference sheet has them, and a user that they tell of: for the tests of their texts and of the files. */
import { fileURLToPath } from 'node:url';
import { UserAccount, WorkerAccount } from '../../../../services/stratum/stats/stats.ts';
import type { Form } from '../../../../services/stratum/stats/status-text.ts';

export const W = 2 ** 32;
export const CKPOOL: Form = { ckpool: true, hashesPerDifficulty: W };
export const OURS: Form = { ckpool: false, hashesPerDifficulty: W };
export const recorded = (path: string): string =>
  fileURLToPath(new URL(`../../../fixtures/ckpool/${path}`, import.meta.url));

// --- CKPool 0.9.9's texts, from the reference sheet, sections 8.3 to 8.5 and 5.4 -------------------------------------------

export const USER = `{
 "hashrate1m": "426G",
 "hashrate5m": "107G",
 "hashrate1hr": "9.48G",
 "hashrate1d": "397M",
 "hashrate7d": "56.7M",
 "lastshare": 1795327771,
 "workers": 2,
 "shares": 8032,
 "bestshare": 49808.47724835609,
 "bestever": 49808,
 "authorised": 1795327660,
 "worker": [
  {
   "workername": "1PKN.w1",
   "hashrate1m": "1.62G",
   "hashrate5m": "455M",
   "hashrate1hr": "48.6M",
   "hashrate1d": "2.09M",
   "hashrate7d": "298K",
   "lastshare": 1795327661,
   "shares": 84,
   "bestshare": 231.5856497774995,
   "bestever": 231
  }
 ]
}
`;
export const POOL = [
  '{"runtime": 120, "lastupdate": 1795327777, "Users": 1, "Workers": 2, "Idle": 1, "Disconnected": 1}',
  '{"hashrate1m": "406G", "hashrate5m": "106G", "hashrate15m": "37.3G", "hashrate1hr": "9.52G", "hashrate6hr": "1.6G", "hashrate1d": "399M", "hashrate7d": "57M"}',
  '{"diff": 0.19, "accepted": 8032, "rejected": 436, "bestshare": 49808, "SPS1m": 0.691, "SPS5m": 0.241, "SPS15m": 0.0888, "SPS1h": 0.023}',
];

export function sheetUser(): UserAccount {
  const at = 1_795_327_777_000;
  const user = new UserAccount(
    '1PKN',
    at,
    [426e9, 107e9, 9.48e9, 397e6, 56.7e6].map((rate) => rate / W),
  );
  Object.assign(user, { shares: 8032, best: 49808.477248356088, bestEver: 49808.477248356088 });
  Object.assign(user, { lastShareMs: 1_795_327_771_000, authorizedS: 1_795_327_660 });
  const worker = new WorkerAccount(
    '1PKN.w1',
    at,
    [1.62e9, 455e6, 48.6e6, 2.09e6, 298e3].map((rate) => rate / W),
  );
  Object.assign(worker, { shares: 84, best: 231.5856497774995, bestEver: 231.5856497774995 });
  Object.assign(worker, { lastShareMs: 1_795_327_661_000, startedMs: 1_795_327_660_000, agent: 'cgminer/4.11.1' });
  user.workers.set(worker.name, worker);
  return user;
}
