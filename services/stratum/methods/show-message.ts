/** client.show_message: words for the person in front of the miner, to the programs that CKPool knows to show them. */
import type { Session } from '../session.ts';

/** cgminer, sgminer, bfgminer, gminer; not bmminer or cpuminer (CKPool). */
function showsMessages(agent: string): boolean {
  return agent.toLowerCase().includes('gminer');
}

/** Sends `words` where the client shows such. */
export function showMessage(session: Session, words: string): void {
  if (!showsMessages(session.agent)) return;
  session.send(`{"id":null,"method":"client.show_message","params":[${JSON.stringify(words)}]}\n`);
}
