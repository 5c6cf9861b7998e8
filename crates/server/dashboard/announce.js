// Announcements for screen readers: the ends of uploads, in batches, without progress.

import { count } from './format.js';

/** Minimum time between two announcements, in milliseconds. */
const MIN_INTERVAL = 4000;

const region = document.getElementById('announcer');
const queue = [];
let timer = null;

/** Maximum number of sentences per announcement. */
const BATCH_SIZE = 3;

/** Queues a sentence; of a large batch, only the first few are announced, and the number of the others. */
export function announce(sentence) {
  queue.push(sentence);
  timer ??= setTimeout(speak, 300);
}

function speak() {
  const sentences = queue.splice(0);
  if (sentences.length === 0) {
    timer = null;
    return;
  }
  const more = sentences.splice(BATCH_SIZE).length;
  if (more > 0) sentences.push(`And ${count(more, 'more change')}.`);
  region.textContent = sentences.join(' ');
  timer = setTimeout(speak, MIN_INTERVAL);
}
