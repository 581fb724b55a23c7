// word_count: how many words a text has, and which it has most often.

import { actions, log } from "../../sdk/javascript/warren/warren.js";

/** How many of the most frequent words are told. */
const MOST = 5;

const CAPITALS = /[A-Z]+/g;
const WORDS = /[a-z0-9\u0080-\uffff]+/g;

function count({ text }) {
  const words = text.replace(CAPITALS, (letters) => letters.toLowerCase()).match(WORDS);
  if (words === null) throw new Error("there are no words in the text");

  const counts = new Map();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);

  log.info(`${words.length} words, ${counts.size} of them distinct`);
  return { words: words.length, distinct: counts.size, most_frequent: mostFrequent(counts) };
}

/** Letters are compared of those alone that can be among them: comparing is dear, and most words are there once. */
function mostFrequent(counts) {
  const least = [...counts.values()].sort((a, b) => b - a).at(MOST - 1) ?? 0;
  return [...counts]
    .filter(([, count]) => count >= least)
    .sort(([a, countA], [b, countB]) => countB - countA || byCodePoints(a, b))
    .slice(0, MOST)
    .map(([word, count]) => ({ word, count }));
}

/** As `<` is by UTF-16, where what is beyond 16 bits comes before U+E000. */
function byCodePoints(a, b) {
  let at = 0;
  while (at < a.length && a[at] === b[at]) at++;
  return (a.codePointAt(at) ?? -1) - (b.codePointAt(at) ?? -1);
}

export const handler = actions({ count });
