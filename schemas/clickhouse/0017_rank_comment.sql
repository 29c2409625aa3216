-- Of copies of one instant, one that does not know its height comes last.

ALTER TABLE shares_raw COMMENT COLUMN rank 'Order of copies, the highest wins: live before others, then smallest receipt instant, then those that know their height, then smallest digest of the share';
