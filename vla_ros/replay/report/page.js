"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const strips = Object.fromEntries([...document.querySelectorAll(".strip")].map(strip =>
  [strip.dataset.view, [...strip.children]]));
const times = Object.fromEntries(Object.entries(strips).map(([view, images]) =>
  [view, images.map(image => Number(image.dataset.at))]));
const STEP_S = 0.05, KEYS = {ArrowLeft: -STEP_S, ArrowRight: STEP_S};
let at = 0, playing = 0;

function last(instants, seconds) {  // index of the last instant until then, 0 before the first
  let low = 0, high = instants.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (instants[middle] <= seconds) low = middle; else high = middle;
  }
  return low;
}

function show(seconds) {
  at = Math.min(Math.max(seconds, 0), data.end_s);
  byId("cursor").style.left = (data.end_s > 0 ? 100 * at / data.end_s : 0) + "%";
  byId("instant").textContent = at.toFixed(2) + " s";
  for (const image of document.querySelectorAll("#now img")) {
    const source = strips[image.dataset.view][last(times[image.dataset.view], at)].src;
    if (image.src !== source) image.src = source;
  }
  const index = last(data.instants, at);
  for (const cell of document.querySelectorAll("#readout td[data-curve]"))
    cell.textContent = data.values[cell.dataset.curve][index] ?? "";
}

function layOut() {  // of pictures that would lie over each other only the first is shown
  for (const images of Object.values(strips)) {
    let free = 0;
    for (const image of images) image.hidden = false;
    const places = images.map(image => [image, image.offsetLeft, image.offsetWidth]);
    for (const [image, left, width] of places) {
      image.hidden = left < free;
      if (!image.hidden) free = left + width;
    }
  }
  for (const bar of document.querySelectorAll(".lane span")) bar.classList.toggle("narrow", bar.offsetWidth < 36);
}

function point(event) {
  const box = byId("overlay").getBoundingClientRect();
  if (event.clientX >= box.left) show((event.clientX - box.left) / box.width * data.end_s);
}

function play() {
  playing = playing ? 0 : performance.now() - at * 1000;
  byId("play").textContent = playing ? "Pause" : "Play";
  if (!playing) return;
  if (at >= data.end_s) playing = performance.now();
  requestAnimationFrame(function step(now) {
    if (!playing) return;
    show((now - playing) / 1000);
    if (at < data.end_s) requestAnimationFrame(step); else play();
  });
}

function pointed(event) {
  if (playing) play();
  point(event);
}

byId("timeline").addEventListener("pointermove", event => { if (!playing) point(event); });
byId("timeline").addEventListener("pointerdown", pointed);
byId("play").addEventListener("click", play);
byId("zoom").addEventListener("change", event => {
  byId("timeline").style.setProperty("--zoom", event.target.value);
  layOut();
  const cursor = byId("cursor").offsetLeft, scroll = byId("scroll");
  scroll.scrollLeft = cursor - scroll.clientWidth / 2;
});
for (const box of document.querySelectorAll("[data-hides]"))
  box.addEventListener("change", () => byId("timeline").classList.toggle("hide-" + box.dataset.hides, !box.checked));
for (const link of document.querySelectorAll("a[data-at]"))
  link.addEventListener("click", () => show(Number(link.dataset.at)));
byId("heat")?.addEventListener("change", event => byId("looks").classList.toggle("no-heat", !event.target.checked));
addEventListener("keydown", event => {
  if (event.key in KEYS && !/^(SELECT|INPUT)$/.test(event.target.tagName)) {
    show(at + KEYS[event.key] * (event.shiftKey ? 10 : 1));
    event.preventDefault();
  }
});
addEventListener("resize", layOut);
addEventListener("load", layOut);
show(0);
