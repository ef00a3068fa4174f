"use strict";
// Plays decisions one after the other, slowed to what eyes can follow.

// Milliseconds between two packets, by the place of the slider.
const GAPS = [3200, 1800, 1000, 500, 250, 120, 50];
// So many decisions are held here.
const MOST_HELD = 3000;
// Who looks on live is never further behind than this.
const MOST_BEHIND = 60;

class Player {
  constructor(picture, listeners) {
    this.picture = picture;
    this.listeners = listeners;
    this.items = [];
    this.at = -1;
    this.playing = true;
    this.gap = GAPS[2];
    this.skipped = 0;
    this.dots = new Set();
    this.live = false;
    this.due = 0;
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const turn = (now) => {
      this.turn(now);
      requestAnimationFrame(turn);
    };
    requestAnimationFrame(turn);
  }

  clear() {
    this.items = [];
    this.at = -1;
    this.skipped = 0;
    for (const dot of [...this.dots]) this.remove(dot);
    this.listeners.changed();
  }

  add(items) {
    this.items.push(...items);
    const over = this.items.length - MOST_HELD;
    // What is looked at stays: then the new ones are left out.
    const cut = Math.min(Math.max(0, over), Math.max(0, this.at - 100));
    this.items.splice(0, cut);
    this.at -= cut;
    const still = this.items.length - MOST_HELD;
    if (this.live && still > 0) {
      this.items.splice(this.at + 1, still);
      this.skipped += still;
    }
    this.listeners.changed();
  }

  turn(now) {
    if (this.playing && now >= this.due && this.at + 1 < this.items.length) {
      const behind = this.items.length - this.at - 1;
      if (this.live && behind > MOST_BEHIND) {
        this.skipped += behind - MOST_BEHIND / 2;
        this.at += behind - MOST_BEHIND / 2;
      }
      this.at += 1;
      this.due = now + this.gap;
      this.show(this.items[this.at], now);
      this.listeners.moved();
    }
    for (const dot of [...this.dots]) {
      // A packet takes longer than the gap to the next: then several are on their way.
      const age = (now - dot.since) / dot.time;
      if (dot.held ? !dot.stays : age > 1) this.remove(dot);
      else if (!dot.held) this.place(dot, age);
    }
  }

  place(dot, age) {
    const { before, after } = dot.way;
    const [comes, decides] = before.length > 1 ? [0.38, 0.3] : [0, 0.6];
    const goes = 1 - comes - decides;
    let at;
    if (this.still || (age >= comes && age < comes + decides)) at = before[before.length - 1];
    else if (age < comes) at = along(before, age / comes);
    else at = after.length > 1 ? along(after, (age - comes - decides) / goes) : before[before.length - 1];
    const isDeciding = this.still || age >= comes;
    dot.text.textContent = isDeciding ? dot.says : "";
    const edge = Math.min(90, this.picture.width / 4);
    dot.text.setAttribute("dx", Math.min(Math.max(at[0], edge), this.picture.width - edge) - at[0]);
    dot.group.setAttribute("transform", `translate(${at[0]} ${at[1]})`);
    dot.group.classList.toggle("drop", dot.isDrop && isDeciding);
    dot.cross.setAttribute("visibility", dot.isDrop && isDeciding ? "visible" : "hidden");
  }

  show(item, now, held) {
    this.picture.learn(item);
    const way = this.picture.way(item);
    if (!way) return;
    for (const [name, rect] of this.picture.boxes) rect.classList.toggle("now", name === item.event.node);
    // The picture was drawn anew: what moved in it is gone.
    for (const dot of [...this.dots]) if (dot.group.parentNode !== this.picture.moving) this.remove(dot);
    const cross = drawn("path", { class: "cross", d: "M-4 -4 L4 4 M4 -4 L-4 4" });
    const text = drawn("text", { y: -15 });
    const group = drawn("g", { class: `packet ${item.event.stage}` }, drawn("circle", { r: 10 }), cross, text);
    group.dataset.id = item.id;
    group.addEventListener("click", () => this.listeners.chosen(item));
    const dot = {
      item, way, group, cross, text, since: now, held: Boolean(held), stays: true,
      time: this.still ? Math.max(1200, this.gap) : Math.min(4200, Math.max(700, this.gap * 2.2)),
      says: `${item.event.stage}: ${item.event.reason}`,
      isDrop: item.event.verdict === "drop",
    };
    this.dots.add(dot);
    this.picture.moving.append(group);
    this.place(dot, held ? 0.5 : 0);
  }

  remove(dot) {
    dot.group.remove();
    this.dots.delete(dot);
  }

  play(playing) {
    this.playing = playing;
    for (const dot of this.dots) dot.stays = !playing;
    this.listeners.moved();
  }

  // One decision is shown, and stands still.
  stand(at) {
    if (at < 0 || at >= this.items.length) return false;
    this.playing = false;
    for (const dot of [...this.dots]) this.remove(dot);
    this.at = at;
    this.show(this.items[at], performance.now(), true);
    this.listeners.moved();
    return true;
  }
}
