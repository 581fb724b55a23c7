/* English words that say nothing about a text, and those whose stop ends no sentence. In order, for bsearch. */
#ifndef WORD_LISTS_H
#define WORD_LISTS_H

static const char *const STOP_WORDS[] = {
    "about", "above", "across", "after", "again", "against", "all", "almost", "along", "already", "also",
    "although", "always", "among", "and", "another", "any", "anything", "are", "aren't", "around", "because",
    "been", "before", "being", "below", "between", "both", "but", "can", "can't", "cannot", "could", "did",
    "didn't", "does", "doesn't", "doing", "don't", "done", "down", "during", "each", "either", "else", "even",
    "ever", "every", "few", "for", "from", "further", "get", "gets", "give", "given", "gives", "goes", "had", "has",
    "hasn't", "have", "haven't", "having", "her", "here", "hers", "him", "his", "how", "however", "i'm", "i've",
    "instead", "into", "isn't", "it's", "its", "itself", "just", "less", "let", "like", "made", "make", "makes",
    "many", "may", "might", "more", "most", "much", "must", "neither", "never", "nor", "not", "nothing", "now",
    "off", "often", "once", "one", "only", "onto", "other", "others", "our", "out", "over", "own", "per", "quite",
    "rather", "same", "say", "says", "several", "shall", "she", "should", "shouldn't", "since", "some", "something",
    "still", "such", "than", "that", "that's", "the", "their", "them", "then", "there", "these", "they", "thing",
    "things", "this", "those", "though", "through", "thus", "too", "towards", "two", "under", "until", "upon",
    "use", "used", "uses", "using", "very", "via", "was", "wasn't", "well", "were", "what", "when", "where",
    "whether", "which", "while", "who", "whole", "whom", "whose", "why", "will", "with", "within", "without",
    "won't", "would", "yet", "you", "your",
};

static const char *const ABBREVIATIONS[] = {
    "cf", "dr", "e.g", "fig", "i.e", "mr", "mrs", "ms", "no", "prof", "st", "vs",
};

#endif
