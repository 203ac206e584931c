"use strict";
const filter = document.getElementById("filter");
const size = document.getElementById("size");
const found = [...document.querySelectorAll(".found")];

function show() {
  const words = filter.value.trim().toLowerCase();
  for (const element of found) {
    element.hidden = !(element.textContent + " " + element.title).toLowerCase().includes(words);
  }
}

filter.addEventListener("input", show);
size?.addEventListener("input", () => document.documentElement.style.setProperty("--side", size.value + "px"));
for (const name of document.querySelectorAll(".bars th")) {
  name.addEventListener("click", () => {
    filter.value = name.textContent;
    show();
    document.getElementById("images")?.scrollIntoView();
  });
}
