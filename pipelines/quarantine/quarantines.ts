/** `quarantine` events to rows of `dead_letters`: what a back-fill could not take in, by its place in the file instead of one in the log. */
import { firstWrong, type Row, type RowPipeline, timeText, wrongCount, wrongText, wrongTime } from '../row.ts';

export const quarantinePipeline: RowPipeline<'quarantine'> = {
  topic: 'quarantine',
  table: 'dead_letters',

  wrong(event) {
    return firstWrong(
      wrongText('origin', event.origin),
      wrongText('path', event.path),
      wrongTime('time_us', event.time_us),
      wrongCount('line', event.line, Number.MAX_SAFE_INTEGER),
    );
  },

  row(event, place): Row {
    const where = event.line === 0 ? event.path : `${event.path}:${event.line}`;
    return {
      topic: 'quarantine',
      partition: `${event.origin}:${event.path}`,
      // A file that is left alone may be so for several reasons in turn.
      position: event.line === 0 ? event.reason : String(event.line),
      instance: place.instance,
      run: place.run,
      sequence: place.sequence,
      fingerprint: '',
      reason: `${where}: ${event.reason}`,
      body_hex: event.bytes_hex,
      ingest_time: timeText(event.time_us),
    };
  },
};
