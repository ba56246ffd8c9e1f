// Search and order of the cards of an index page.
"use strict";

const cards = document.getElementById("cards");
const search = document.getElementById("search");
const sort = document.getElementById("sort");
const descending = document.getElementById("descending");
const count = document.getElementById("count");
const all = Array.from(cards.children);

// Every word must be somewhere in the card's text.
function filter() {
  const words = search.value.toLowerCase().split(/\s+/);
  let shown = 0;
  for (const card of all) {
    const text = card.dataset.text.toLowerCase();
    card.hidden = !words.every((word) => text.includes(word));
    shown += card.hidden ? 0 : 1;
  }
  count.textContent = `${shown} of ${all.length}`;
}

// Cards without the metric come last in either direction.
function order() {
  const key = sort.value;
  const sign = descending.checked ? -1 : 1;
  const value = (card) =>
    key === "title"
      ? card.dataset.title
      : card.hasAttribute(`data-${key}`)
        ? Number(card.getAttribute(`data-${key}`))
        : null;
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (key === "title" ? x.localeCompare(y) : x - y);
  };
  const listed = descending.checked ? [...all].reverse() : all;
  cards.replaceChildren(...(key ? [...all].sort(compare) : listed));
}

search.addEventListener("input", filter);
sort.addEventListener("change", order);
descending.addEventListener("change", order);
// A browser that goes back keeps what was typed.
filter();
order();
