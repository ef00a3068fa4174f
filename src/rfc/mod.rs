#![doc = include_str!("clauses.md")]

#[cfg(test)]
mod tests;
