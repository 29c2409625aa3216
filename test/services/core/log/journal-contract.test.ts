import { openJournalLog } from '../../../../services/core/log/journal.ts';
import { eventLogSuite } from '../../../contracts/event-log.ts';
import { tempJournal, writeSegment } from './journal-files.ts';

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
