import { readdirSync } from 'node:fs';
import { TOPICS } from '../../../../schemas/events.ts';
import type { EventLog } from '../../../../services/core/log/event-log.ts';
import { openJournalLog } from '../../../../services/core/log/journal.ts';
import { eventLogSuite } from '../../../contracts/event-log.ts';
import { tempJournal, writeSegment } from './journal-files.ts';
import { packTopic } from './packing.ts';

eventLogSuite('the journal', async () => {
  const { dir, remove } = tempJournal();
  return {
    open: async (writer) => openJournalLog({ dir, instance: writer }),
    storeForeign: async (topic, schemaText, bodies) => {
      writeSegment(dir, 'earlier', topic, 0, schemaText, bodies);
    },
    remove: async () => remove(),
  };
});

/** Each append in a segment of its own, and all but the newest packed before it has ended: readers stand in the middle of what is exchanged. */
eventLogSuite('the journal, packed at once', async () => {
  const { dir, remove } = tempJournal();
  const packed = (log: EventLog): EventLog => ({
    ...log,
    async append(entries) {
      await log.append(entries);
      for (const instance of readdirSync(dir)) for (const topic of TOPICS) await packTopic(dir, instance, topic, 3);
    },
  });
  return {
    open: async (writer) => packed(openJournalLog({ dir, instance: writer, segmentBytes: 1 })),
    storeForeign: async (topic, schemaText, bodies) => {
      writeSegment(dir, 'earlier', topic, 0, schemaText, bodies);
    },
    remove: async () => remove(),
  };
});
