"use strict";
// The page: it asks the server that it comes from, and nobody else.

const byId = (id) => document.getElementById(id);
// Behind the number sign: it is in no request that a log may keep, and in no Referer.
const TOKEN = new URLSearchParams(location.hash.slice(1)).get("token");
// So many decisions are asked for at once, and so many are in the list.
const AT_ONCE = 200;
const LISTED = 120;

let filter = "";
let stream = null;
let isLive = false;
let looked = 0;
let all = 0;
let isAsking = false;
// How often decisions were asked for from the beginning: an answer to what was asked before that is nobody's any more.
let begun = 0;
let submitted = 0;
let chosen = null;
let digest = null;

function address(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) query.set(name, value);
  if (TOKEN) query.set("token", TOKEN);
  return `${path}?${query}`;
}

async function ask(path, parameters = {}) {
  try {
    const answer = await fetch(address(path, parameters));
    if (answer.status === 403) say("This page needs the token: open the whole address that dunnat web has printed.");
    return answer.ok ? await answer.json() : null;
  } catch {
    say("dunnat web does not answer.");
    return null;
  }
}

function say(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

const picture = new Picture(byId("picture"));
const player = new Player(picture, { moved, changed, chosen: choose });
const details = new Details(ask, address, only);

function choose(item) {
  chosen = item.id;
  details.decision(item);
  list();
}

// The filter that has this flow alone.
function only(item) {
  const { event } = item;
  const words = [`host ${item.client}`];
  const ports = event.before && event.before.sport !== undefined;
  if (ports) words.push(`port ${event.stage === "spoof" ? event.before.dport : event.before.sport}`);
  byId("filter").value = words.join(" and ");
  show();
}

let isListed = false;
function changed() {
  // Many may come at once: the list is drawn once for all.
  if (isListed) return;
  isListed = true;
  requestAnimationFrame(() => {
    isListed = false;
    list();
  });
}

function moved() {
  byId("play").textContent = player.playing ? "Pause" : "Play";
  const now = player.items[player.at];
  const behind = player.items.length - player.at - 1;
  const total = isLive ? "" : ` of ${all}`;
  const parts = [now ? `#${now.id}${total}` : "waiting for packets"];
  if (isLive && behind > 0 && !player.playing) parts.push(`${behind} newer`);
  if (player.skipped > 0) parts.push(`${player.skipped} passed over, to keep up: a filter or a higher speed shows more`);
  byId("where").textContent = parts.join("; ");
  byId("latest").hidden = !(isLive && behind > 1);
  if (!isLive && behind < AT_ONCE / 2) more();
  changed();
}

// The decisions around the one that is shown.
function list() {
  const box = byId("list");
  const at = Math.max(0, player.at);
  const from = player.playing && isLive ? Math.max(0, player.at - LISTED + 1) : Math.max(0, at - LISTED / 2);
  const to = player.playing && isLive ? player.at + 1 : Math.min(player.items.length, from + LISTED);
  const rows = [];
  for (let place = to - 1; place >= from; place--) {
    const item = player.items[place];
    if (!item) continue;
    const { event } = item;
    const row = made("li");
    row.tabIndex = 0;
    row.dataset.id = item.id;
    row.append(
      made("span", String(item.id), "id"), made("span", event.node), made("span", event.stage, event.stage),
      made("span", item.packet), made("span", item.decision, event.verdict === "drop" ? "what drop" : "what"),
    );
    if (place === player.at) row.classList.add("now");
    if (item.id === chosen) row.classList.add("chosen");
    const pick = () => {
      player.stand(player.items.indexOf(item));
      choose(item);
    };
    row.addEventListener("click", pick);
    row.addEventListener("keydown", (key) => key.key === "Enter" && pick());
    rows.push(row);
  }
  // Of a trace the first stands first.
  if (!isLive) rows.reverse();
  box.replaceChildren(...rows);
  // Only the list is scrolled, never the page.
  const now = box.querySelector(".now");
  if (now && !isLive) box.scrollTop = now.offsetTop - box.offsetTop - box.clientHeight / 3;
}

// The next decisions of saved traces.
async function more() {
  if (isAsking || isLive || looked >= all) return;
  isAsking = true;
  const asked = begun;
  const answer = await ask("past", { after: looked, count: AT_ONCE, filter });
  if (asked !== begun) return;
  isAsking = false;
  if (!answer) return;
  looked = answer.looked;
  all = answer.last;
  player.add(answer.events);
  if (player.items.length === 0 && looked >= all) say("No decision matches this filter.");
}

// Those before the first that is held.
async function earlier() {
  const first = player.items[0];
  if (!first || first.id <= 1) return false;
  const asked = begun;
  const answer = await ask("past", { before: first.id, count: AT_ONCE, filter });
  if (asked !== begun || first !== player.items[0]) return false;
  if (!answer || answer.events.length === 0) return false;
  player.items.unshift(...answer.events);
  player.at += answer.events.length;
  return true;
}

async function back() {
  if (player.at <= 0 && !(await earlier())) return;
  player.stand(player.at - 1);
}

function on() {
  player.stand(player.at + 1);
}

function begin() {
  player.clear();
  say("");
  begun += 1;
  isAsking = false;
  looked = 0;
  if (stream) stream.close();
  if (!isLive) {
    player.play(true);
    more();
    return;
  }
  stream = new EventSource(address("events", { filter }));
  let last = 0;
  stream.addEventListener("decision", (message) => {
    const item = JSON.parse(message.data);
    // After a break the last ones come again.
    if (item.id <= last) return;
    last = item.id;
    player.add([item]);
  });
  stream.addEventListener("counts", (message) => counts(JSON.parse(message.data)));
  stream.addEventListener("open", () => say(""));
  stream.addEventListener("error", () => say("The connection to dunnat web is broken; the page tries again."));
  player.play(true);
}

function counts(told) {
  const parts = [`${told.matched} decisions`];
  if (told.of > 1) parts.push(`too many to show: only one flow of ${told.of} is shown`);
  if (told.sampled_out) parts.push(`${told.sampled_out} left out by sampling`);
  if (told.lost) parts.push(`${told.lost} lost: this browser reads too slowly`);
  if (told.missed) parts.push(`${told.missed} never came here: dunnat web reads too slowly`);
  for (const socket of told.sockets) if (socket.why) parts.push(`${socket.socket}: ${socket.why}`);
  byId("counts").textContent = parts.join("; ");
  if (told.clusters !== digest) {
    digest = told.clusters;
    learn();
  }
}

async function learn() {
  const told = await ask("cluster");
  if (told && told.cluster) picture.cluster(told.cluster);
  return told;
}

async function show() {
  const wanted = byId("filter").value.trim();
  const asked = (submitted += 1);
  const answer = await ask("filter", { filter: wanted });
  if (!answer || asked !== submitted) return;
  byId("filter-error").textContent = answer.error || "";
  byId("filter-error").hidden = !answer.error;
  if (answer.error) return;
  filter = wanted;
  begin();
}

byId("filter-form").addEventListener("submit", (event) => {
  event.preventDefault();
  show();
});
byId("play").addEventListener("click", () => player.play(!player.playing));
byId("back").addEventListener("click", back);
byId("step").addEventListener("click", on);
byId("speed").addEventListener("input", () => {
  player.gap = GAPS[Number(byId("speed").value)];
  player.due = 0;
});
byId("latest").addEventListener("click", () => {
  player.at = player.items.length - 2;
  player.play(true);
});
document.addEventListener("keydown", (key) => {
  if (key.target.tagName === "INPUT" || key.ctrlKey || key.metaKey || key.altKey) return;
  if (key.key === "ArrowLeft") back();
  else if (key.key === "ArrowRight") on();
  else if (key.key === " " && key.target.tagName !== "BUTTON") player.play(!player.playing);
  else return;
  key.preventDefault();
});

learn().then((told) => {
  if (!told) return;
  isLive = told.live;
  player.live = isLive;
  all = told.count;
  begin();
});
