/** Names: what an origin, an instance or a contract may be called, and which known name a misspelt one may have meant. */

/** Safe as a file's name and within positions of the journal: 1 to 64 letters, digits, . _ or -, a letter or digit first. */
export const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** The known name that differs in the fewest letters, at most three and half of them; null where none is so near. */
export function nearestName(name: string, names: readonly string[]): string | null {
  const distance = (a: string, b: string): number => {
    let row = Array.from({ length: b.length + 1 }, (_, i) => i);
    for (let i = 1; i <= a.length; i++) {
      const next = [i];
      for (let j = 1; j <= b.length; j++) {
        next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
      }
      row = next;
    }
    return row[b.length]!;
  };
  const best = names.map((candidate) => [distance(name, candidate), candidate] as const).sort((a, b) => a[0] - b[0])[0];
  return best !== undefined && best[0] <= Math.min(3, name.length / 2) ? best[1] : null;
}
