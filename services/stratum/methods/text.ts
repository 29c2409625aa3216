/** Texts that strangers send, before they go into logs, events, status files and terminals. */

/**
 * What no name or agent needs, and what a terminal or a reader can be deceived by: controls (C1 too, which some terminals take for the escape
 * character), line and paragraph separators, what turns the direction of writing.
 */
export const UNPRINTABLE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
const ALL_UNPRINTABLE = new RegExp(UNPRINTABLE, 'g');

/** The beginning of a well-formed text, never half a character at its end. @param limit - UTF-16 units */
export function cutText(text: string, limit: number): string {
  if (text.length <= limit) return text;
  const cut = text.slice(0, limit);
  return cut.isWellFormed() ? cut : cut.slice(0, -1);
}

/** A text cut and without what cannot be printed, each a space. */
export function plainText(text: string, limit: number): string {
  return cutText(text.slice(0, limit + 1).toWellFormed(), limit).replace(ALL_UNPRINTABLE, ' ');
}
