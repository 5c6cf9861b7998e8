// What is said to those who listen instead of looking: ends of uploads, gathered, never progress.

import { some } from './format.js';

/** Between two sentences, in milliseconds. */
const PAUSE = 4000;

const place = document.getElementById('announcer');
const waiting = [];
let timer = null;

/** Sentences that are said in one go. */
const MOST = 3;

/** Says a sentence soon; of many that come at once, the first few are said, and how many more there are. */
export function announce(sentence) {
  waiting.push(sentence);
  timer ??= setTimeout(speak, 300);
}

function speak() {
  const sentences = waiting.splice(0);
  if (sentences.length === 0) {
    timer = null;
    return;
  }
  const more = sentences.splice(MOST).length;
  if (more > 0) sentences.push(`And ${some(more, 'more change')}.`);
  place.textContent = sentences.join(' ');
  timer = setTimeout(speak, PAUSE);
}
