/** The line that CKPool renews each second on its terminal, under the names ckpool and ckproxy and without `-q`: that it lives, and how it does. */

const EVERY_MS = 1_000;
const SPINNER = ['|', '/', '-', '\\'];
/** Erases the line and goes to its start; log lines on a terminal begin with the same. */
const ERASE = '\u001b[2K\r';

/**
 * Shows the line until it is stopped.
 *
 * @param text - the line for a spinner of one character
 * @param write - to the terminal
 * @returns stops it and clears the line
 */
export function showStatusLine(text: (spinner: string) => string, write: (text: string) => void): () => void {
  let turn = 0;
  const timer = setInterval(() => write(`${ERASE}${text(SPINNER[turn++ % SPINNER.length]!)}`), EVERY_MS).unref();
  return () => {
    clearInterval(timer);
    write(ERASE);
  };
}
