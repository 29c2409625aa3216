import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { SessionInput } from '../../../schemas/events.ts';
import { openJournalWriter } from '../../../services/core/log/journal.ts';
import { Facts } from '../../../services/stratum/facts.ts';
import { sampleSession, sampleShare } from '../../contracts/samples.ts';
import { tempDir } from '../../helpers/leash.ts';
import { journaled } from './rig.ts';

test('an event that fits no schema is said and left out; it keeps no other from the disk', async () => {
  const dir = tempDir('facts');
  try {
    const writer = openJournalWriter({ dir: join(dir.path, 'journal'), instance: 'one' });
    const lines: string[] = [];
    const flushed: boolean[] = [];
    const facts = new Facts(
      writer,
      null,
      (line) => void lines.push(line),
      (ok) => void flushed.push(ok),
    );
    facts.session(sampleSession(1));
    facts.session({ ...sampleSession(2), time_us: 'soon' } as unknown as SessionInput);
    facts.share(sampleShare(3));
    facts.flush();
    expect(flushed).toEqual([true]);
    expect(lines).toEqual([expect.stringMatching(/^an event of topic session cannot be written and is left out: /)]);
    expect(facts.problems).toEqual([]);
    writer.close();
    expect(await journaled(dir.path, 'one', 'session')).toHaveLength(1);
    expect(await journaled(dir.path, 'one', 'share')).toHaveLength(1);
  } finally {
    dir.remove();
  }
});
